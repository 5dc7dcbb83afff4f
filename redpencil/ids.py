"""Ids that never collide and sort by time: a prefix, 12 hex digits of milliseconds, 16 more.

Of the 16 the first 3 are 4096ths of the millisecond and the others chance, as in method 3 of RFC 9562, 6.2;
within a process each id is later than all before it, however fast they follow and wherever the clock is set.
"""

import secrets
import threading
import time

_TICKS = 4096  # a millisecond
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """A fresh id such as `pred_0199c0ffee12_9f86d081884c7d65`, after all that this process has made."""
    tick = f"{_next_tick():015x}"
    return f"{prefix}_{tick[:12]}_{tick[12:]}{secrets.token_hex(7)[1:]}"


def _next_tick() -> int:
    global _last
    with _lock:
        _last = max(_last + 1, time.time_ns() * _TICKS // 1_000_000)
        return _last
