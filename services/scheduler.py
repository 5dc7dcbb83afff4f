"""Starts training runs, one at a time, watches them, and forgets none over a restart."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Run, RunState
from services import leash, logs
from services.schedule import Schedule

log = logging.getLogger(__name__)

TICK_S = 1.0
ASKED_S = 15.0
"""How long a run that was asked to stop may take before it gets SIGTERM, and then before SIGKILL."""
STOP_TIMEOUT_S = 10.0
KEYS_KEPT_S = 7 * 24 * 3600.0
"""How long an Idempotency-Key is remembered."""
TIDY_S = 3600.0
MOST_WAITING = 1000

Start = Callable[[list[str], Path], subprocess.Popen[bytes]]


class Scheduler:
    """One look at everything is `tick`; `run` looks every second.

    A run's process is known by its id on the command line, so a number that the system gave to
    somebody else in the meantime is never mistaken for it.
    """

    def __init__(
        self, store: Store, settings: Settings, models: tuple[str, ...], start: Start = leash.start
    ) -> None:
        self._store, self._settings, self._models, self._start = store, settings, models, start
        self.schedule = Schedule(store, settings)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._asked_at: dict[str, float] = {}
        self._tidied_at = 0.0
        self.trouble = ""

    def run(self, stopping: threading.Event) -> None:
        """Until told to stop. Runs are children of this thread: they end with it and are resumed later."""
        while not stopping.is_set():
            try:
                self.tick()
                self.trouble = ""
            except Exception as error:  # the watch must outlive whatever a database or a disk does
                log.exception("scheduling")
                self.trouble = f"{type(error).__name__}: {error}"
            stopping.wait(TICK_S)
        self.stop()

    def tick(self) -> None:
        for model in self._models:
            for run in self._store.runs.list(model, [RunState.RUNNING]):
                self._watch(run)
            self.schedule.due(model)
        self._start_next()
        self._reap()
        if time.monotonic() - self._tidied_at > TIDY_S:
            self._store.idempotency.forget(KEYS_KEPT_S)
            self._tidied_at = time.monotonic()

    def stop(self) -> None:
        """End all children; a planned end is no failed try, so the attempt is given back."""
        for id, process in self._processes.items():
            if process.poll() is None:
                process.terminate()
                _wait(process)
                run = self._store.runs.get(id)
                if run.state is RunState.RUNNING:
                    self._store.runs.update(id, attempts=max(0, run.attempts - 1), pid=None)
        self._processes.clear()

    def log_of(self, id: str) -> Path:
        return self._settings.home / "logs" / f"{id}.log"

    def _start_next(self) -> None:
        """The run that has waited longest, of whichever model; the models share this machine's cores."""
        waiting = []
        for model in self._models:
            if self._store.runs.list(model, [RunState.RUNNING], limit=1):
                return
            waiting += self._store.runs.list(model, [RunState.QUEUED], limit=MOST_WAITING)[-1:]
        if not waiting:
            return
        oldest = min(waiting, key=lambda run: (run.created_at, run.id))
        if (claimed := self._store.runs.claim_next(oldest.model)) is not None:
            self._launch(claimed)

    def _watch(self, run: Run) -> None:
        """A run that is said to be running: it does, or it is stopped, resumed or given up."""
        if (pid := self._alive(run)) is not None:
            if run.progress.get("cancel"):
                self._press(run.id, pid)
            return
        now = self._store.runs.get(run.id)
        if now.state is not RunState.RUNNING:
            return  # it ended well between the two looks
        if self._store.runs.cancel_requested(run.id):
            self._end(run, RunState.CANCELLED, "cancelled on request")
        elif now.attempts < self._settings.max_attempts:
            log.warning("%s was interrupted; resuming it", run.id)
            self._launch(self._store.runs.update(run.id, attempts=now.attempts + 1))
        else:
            self._end(run, RunState.FAILED, self._why_given_up(now))

    def _alive(self, run: Run) -> int | None:
        """The process of a run, if it lives: a child of ours, or one that an earlier start of ours left."""
        child = self._processes.get(run.id)
        if child is not None:
            return child.pid if child.poll() is None else None
        return run.pid if run.pid is not None and _is_of(run.pid, run.id) else None

    def _press(self, id: str, pid: int) -> None:
        """Asked first (the run reads that itself), then SIGTERM, then SIGKILL to all of its processes."""
        now = time.monotonic()
        waited = now - self._asked_at.setdefault(id, now)
        if waited > 2 * ASKED_S:
            _kill_tree(pid)
        elif waited > ASKED_S:
            _terminate(pid)

    def _launch(self, run: Run) -> None:
        command = [sys.executable, "-m", "training", run.id]
        process = self._start(command, self.log_of(run.id))
        self._processes[run.id] = process
        self._store.runs.update(run.id, pid=process.pid)
        log.info("%s: started as process %d, attempt %d", run.id, process.pid, run.attempts)

    def _end(self, run: Run, state: RunState, why: str) -> None:
        self._store.runs.update(run.id, state=state, error=why, finished_at=time.time(), pid=None)
        self._asked_at.pop(run.id, None)

    def _why_given_up(self, run: Run) -> str:
        said = logs.last_words(self.log_of(run.id))
        words = f"its process ended {run.attempts} times before it was done (phase {run.phase or 'start'}); "
        return words + (f"its log ends with: {said}" if said else f"see {self.log_of(run.id)}")

    def _reap(self) -> None:
        """Forget the processes of runs that are over."""
        for id, process in list(self._processes.items()):
            if process.poll() is not None and self._store.runs.get(id).state.final:
                del self._processes[id]
                self._asked_at.pop(id, None)


def _is_of(pid: int, run_id: str) -> bool:
    try:
        process = psutil.Process(pid)
        return run_id in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _terminate(pid: int) -> None:
    try:
        psutil.Process(pid).terminate()
    except psutil.NoSuchProcess:
        return  # it has just ended


def _kill_tree(pid: int) -> None:
    """SIGKILL to a process and everything below it, whatever group that is in."""
    try:
        tree = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        _kill_tree(process.pid)
        process.wait()
