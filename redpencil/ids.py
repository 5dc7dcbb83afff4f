"""Ids that sort by time and never collide: a prefix, 12 hex digits of milliseconds, 16 of chance."""

import secrets
import time


def new_id(prefix: str) -> str:
    """A fresh id such as `pred_0199c0ffee12_9f86d081884c7d65`."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}_{secrets.token_hex(8)}"
