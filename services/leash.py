"""Start another program that ends when its starter ends: `python -m services.leash PARENT COMMAND...`.

The kernel is asked to send SIGTERM when the thread that started this process is gone (Linux), so
even `kill -9` of the services leaves no training run or judge behind. Doing this here, in a fresh
process, is safe where running code between fork and exec of a threaded one is not.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, its words going to `log`.

    Call it from a thread that lives as long as the process: the leash hangs on the thread.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    leashed = [sys.executable, "-m", "services.leash", str(os.getpid()), *command]
    with log.open("ab") as words:
        return subprocess.Popen(
            leashed, stdout=words, stderr=words, stdin=subprocess.DEVNULL, start_new_session=True
        )


def end_with_parent() -> None:
    """Have the kernel send this process SIGTERM when the thread that started it is gone (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def become(parent: int, command: Sequence[str]) -> None:
    """Tie this process to its parent's life and turn into the command."""
    end_with_parent()
    if os.getppid() == parent:  # else it died before the leash was on
        os.execv(command[0], list(command))


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
