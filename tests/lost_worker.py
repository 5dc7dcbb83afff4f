"""A worker of Ray Train that dies in the middle of a run, and what of the run must not show it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from training.job import Ended, Job


def kill_at(made: Job, checkpoints: int, within_s: float) -> None:
    """Kill the processes that train once so many checkpoints were kept, or when the time is over."""
    kept = Path(made.settings.storage, made.run.id)
    seen: set[str] = set()
    training: list[psutil.Process] = []
    deadline = time.monotonic() + within_s
    while len(seen) < checkpoints and time.monotonic() < deadline:
        seen |= {folder.name for folder in kept.glob("checkpoint_*")}
        if seen:  # to look for them later takes as long as some runs do
            training = training or workers()
        time.sleep(0.01)
    kill(training)


def kill(training: Sequence[psutil.Process] = ()) -> None:
    """Kill these, or whoever trains now."""
    for process in training or workers():
        with suppress(psutil.NoSuchProcess):
            process.kill()


def workers() -> list[psutil.Process]:
    """Every worker of Ray Train that this process has."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "RayTrainWorker" in process.name() + "".join(process.cmdline()[:1]):
                found.append(process)
    return found


def numbers(ended: Ended) -> list[dict[str, Any]]:
    """What must be equal: everything but the clock."""
    assert ended.how == "done", ended.why
    return [{k: v for k, v in r.items() if k not in ("at", "lines_per_s")} for r in ended.history]
