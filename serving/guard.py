"""A watcher beside `python -m serving`: when that process is gone, however, so are Ray's daemons.

Started with a pipe as its standard input, whose end it waits for; then it ends every process that
carries the mark in its environment. Ray by itself would leave some for a minute, listening.
"""

from __future__ import annotations

import os
import subprocess
import sys

import psutil

MARK = "REDPENCIL_SERVING_MARK"


def start(mark: str) -> subprocess.Popen[bytes]:
    """Watch this process; closing the result's stdin (or dying) is what ends the marked ones."""
    return subprocess.Popen([sys.executable, __file__, mark], stdin=subprocess.PIPE, start_new_session=True)


def sweep(mark: str) -> int:
    """Kill what carries the mark, until nothing does; returns how many there were."""
    killed: set[int] = set()
    while left := [p for p in psutil.process_iter() if p.pid != os.getpid() and _carries(p, mark)]:
        for process in left:
            _kill(process)
        psutil.wait_procs(left, timeout=5)
        if killed >= {p.pid for p in left}:
            break  # cannot be killed; the system will tell who looks
        killed |= {p.pid for p in left}
    return len(killed)


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False  # gone, or another user's: not ours


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return  # it ended by itself meanwhile, which is what was wanted


if __name__ == "__main__":
    sys.stdin.buffer.read()
    sweep(sys.argv[1])
