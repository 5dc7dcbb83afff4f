"""Has the gate judge versions, one at a time, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services import leash, logs

Case = tuple[str, str]
Place = Literal["judging", "waiting"]
STOP_TIMEOUT_S = 10.0
JUDGED = (0, 3)
"""Exit statuses of a trial that has put its verdict into the store: passed, or not."""


@dataclass
class Trial:
    case: Case
    process: subprocess.Popen[bytes]
    log: Path


@dataclass(frozen=True)
class Failure:
    at: float
    words: str


class Judge:
    """A queue of versions to be judged; the verdicts go to the store, by the trial itself.

    Anybody may `ask`; only the one long-lived thread that calls `work` starts processes.
    """

    def __init__(
        self, logs: Path, start: Callable[[list[str], Path], subprocess.Popen[bytes]] = leash.start
    ) -> None:
        self._logs, self._start = logs, start
        self._waiting: deque[Case] = deque()
        self._failed: dict[Case, Failure] = {}
        self._untold: set[Case] = set()
        self._trial: Trial | None = None
        self._lock = threading.Lock()

    def ask(self, model: str, version: str) -> Place:
        """Put a version into the queue, unless it is there; says where it stands."""
        with self._lock:
            if self._trial is not None and self._trial.case == (model, version):
                return "judging"
            if (model, version) not in self._waiting:
                self._waiting.append((model, version))
                self._forget((model, version))
            return "waiting"

    def pending(self, model: str, version: str) -> bool:
        with self._lock:
            judging = self._trial is not None and self._trial.case == (model, version)
            return judging or (model, version) in self._waiting

    def failure(self, model: str, version: str) -> str | None:
        """Why the last trial of a version ended without a verdict; told once."""
        with self._lock:
            case = (model, version)
            told = self._failed[case].words if case in self._untold else None
            self._untold.discard(case)
            return told

    def failed_since(self, model: str, version: str, at: float) -> str | None:
        """The same for who asked at a time, however often, and whoever has been told."""
        with self._lock:
            found = self._failed.get((model, version))
            return found.words if found is not None and found.at >= at else None

    @property
    def now(self) -> Case | None:
        return self._trial.case if self._trial is not None else None

    def work(self) -> None:
        """See whether the trial has ended, and start the next one."""
        with self._lock:
            if self._trial is not None and self._trial.process.poll() is not None:
                self._close(self._trial)
            if self._trial is None and self._waiting:
                self._trial = self._open(self._waiting.popleft())

    def stop(self) -> None:
        """End a trial that is going on; it is asked for again after a restart."""
        with self._lock:
            self._waiting.clear()
            if self._trial is None:
                return
            self._trial.process.terminate()
            try:
                self._trial.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._trial.process.kill()
                self._trial.process.wait()
            self._trial = None

    def _open(self, case: Case) -> Trial:
        log = self._logs / f"judge-{case[0]}-{case[1]}.log"
        log.unlink(missing_ok=True)
        return Trial(case, self._start([sys.executable, "-m", "redpencil.trial", *case], log), log)

    def _close(self, trial: Trial) -> None:
        self._trial = None
        self._forget(trial.case)
        if (code := trial.process.returncode) not in JUDGED:
            words = logs.last_words(trial.log) or f"its process ended with {code}"
            self._failed[trial.case] = Failure(time.time(), words)
            self._untold.add(trial.case)

    def _forget(self, case: Case) -> None:
        """What went wrong before says nothing of a trial that is to come, or went well."""
        self._failed.pop(case, None)
        self._untold.discard(case)
