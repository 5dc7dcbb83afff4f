"""How soon `redpencil up` is ready, and what it takes while nothing is asked of it.

    python -m benchmarks.start

In a home of its own: the first start, which makes the base version, then a second one. The memory is
that of all its processes some seconds after the second: resident, and with what they share divided
among them (PSS).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import stack

SETTLED_S = 15
MIB = 2**20


def main() -> None:
    with tempfile.TemporaryDirectory() as home, stack.running(Path(home)) as one:
        first = one.ready_s
        one.stop()
        one.up()
        time.sleep(SETTLED_S)
        taken = [p.memory_full_info() for p in [psutil.Process(one.process.pid), *one.members()]]
        resident, shared = (sum(getattr(t, kind) for t in taken) / MIB for kind in ("rss", "pss"))
        sys.stdout.write(f"ready after {first:.1f} s, the second time after {one.ready_s:.1f} s\n")
        sys.stdout.write(f"{len(taken)} processes, {resident:.0f} MiB RSS, {shared:.0f} MiB PSS\n")


if __name__ == "__main__":
    main()
