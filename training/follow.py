"""Who looks on while a run goes: the store, MLflow, and a person at a terminal."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from redpencil.errors import Busy, NotReady, RedpencilError
from redpencil.store import Store
from training.track import Page

log = logging.getLogger(__name__)

TELL_EVERY_S = 1.0
AWAY_S = 10.0
"""How long a database that did not answer is left alone: the run waits for each try."""
SYSTEM_EVERY_S = 5


class Follower:
    """Writes a run's progress to the store, at most once a second, and hears whether to stop.

    Where the database is away a warning says so, the run goes on, and it is asked again less often.
    """

    def __init__(self, store: Store, run: str, live: Live) -> None:
        self.store, self.run, self.live = store, run, live
        self.next_at = 0.0

    def step(self, progress: dict[str, Any]) -> bool:
        if time.monotonic() < self.next_at:
            return False
        self.next_at = time.monotonic() + TELL_EVERY_S
        with self._going_on():
            self.store.runs.update(self.run, progress=progress)
        with self._going_on():
            return self.store.runs.cancel_requested(self.run)
        return False

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except (Busy, NotReady) as error:
            log.warning("training goes on, the database hears of it later: %s", error)
            self.next_at = time.monotonic() + AWAY_S

    def epoch(self, history: list[dict[str, Any]]) -> None:
        self.live.tell(history)


class Live:
    """Tells MLflow about a run while it goes, from a thread of its own; the run never waits.

    Where MLflow is away a warning says so, and the next epoch, at the latest the run's end,
    tells all that was missed.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.told = 0
        self.monitor: SystemMetricsMonitor | None = None
        self.inbox: queue.SimpleQueue[list[dict[str, Any]] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def tell(self, history: Sequence[dict[str, Any]]) -> None:
        """Send what of the history is new, soon."""
        self.inbox.put(list(history))

    def __enter__(self) -> Live:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inbox.put(None)
        self.thread.join(timeout=30)

    def _work(self) -> None:
        while (history := self.inbox.get()) is not None:
            try:
                self._watch_machine()
                self.page.history(history[self.told :])
                self.told = len(history)
            except RedpencilError as error:
                log.warning("training goes on, MLflow hears of it later: %s", error)
                self._watch_no_more()
        self._watch_no_more()

    def _watch_machine(self) -> None:
        """Log processor, memory, disk, network and GPU use."""
        if self.monitor is None:
            every, uri = SYSTEM_EVERY_S, self.page.url
            self.monitor = SystemMetricsMonitor(self.page.id, every, resume_logging=True, tracking_uri=uri)
            self.monitor.start()

    def _watch_no_more(self) -> None:
        if self.monitor:
            self.monitor.finish()
            self.monitor = None


@contextmanager
def bar(store: Store, run: str) -> Iterator[None]:
    """Show the run's progress with the time left while the body runs; silent off a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_draw, args=(console, store, run, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _draw(console: Console, store: Store, run: str, over: threading.Event) -> None:
    left = TextColumn("{task.fields[said]}")
    with Progress(TextColumn("training"), BarColumn(), left, console=console, transient=True) as progress:
        task = progress.add_task("", total=None, said="starting")
        while not over.wait(0.5):
            now = store.runs.get(run).progress
            if "steps" in now:
                progress.update(task, total=now["steps"], completed=now["step"], said=told(now))


def told(progress: dict[str, Any]) -> str:
    """Progress in a few words."""
    said = f"epoch {progress['epoch']}/{progress['epochs']}  loss {progress['loss']:.3f}"
    if progress["val_cer"] is not None:
        said += f"  CER {progress['val_cer']:.2%}"
    minutes, seconds = divmod(round(progress["eta_s"]), 60)
    return f"{said}  {minutes}:{seconds:02d} left"
