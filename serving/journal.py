"""Predictions and their images, on disk before anybody hears of them; many in one commit."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redpencil.blobs import Blobs
from redpencil.errors import NotReady
from redpencil.store import Store
from redpencil.store.failures import FAILURES, first_line
from redpencil.types import Image, Prediction

log = logging.getLogger(__name__)

GROUP = 64
LINGER_S = 0.05
LINGER_STEP_S = 0.005


@dataclass(frozen=True)
class Entry:
    """What must be on disk for a prediction to count: the image's bytes, and the two rows."""

    data: bytes
    image: Image
    prediction: Prediction


@dataclass(frozen=True)
class _Waiting:
    entry: Entry
    future: asyncio.Future[None]

    def settle(self, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(error)


class Journal:
    """One thread that takes all that waits, writes it in one commit, and only then says so.

    `on_commit(models, seconds)` hears of every commit and the model of each entry. Before one it
    lingers a moment while `crowded()`: requests wait for readers anyway, and larger groups leave
    these more of the processor. A group that cannot be written is tried again one by one, so that
    one bad entry fails alone; what fails raises NotReady in its `put`.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        on_commit: Callable[[Sequence[str], float], None] = lambda _m, _s: None,
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store, self._blobs, self._on_commit, self._crowded = store, blobs, on_commit, crowded
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    async def put(self, entry: Entry) -> None:
        """Return once the entry is on disk, blob synced and row committed; NotReady if it cannot be."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put(_Waiting(entry, future))
        await future

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Write what still waits, then end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while group := self._take():
            self._settle(group, self._write(group))

    def _take(self) -> list[_Waiting]:
        """Everything queued, at least one and at most a group; empty at the end."""
        group: list[_Waiting] = []
        while len(group) < GROUP and not (group and self._queue.empty()):
            waiting = self._queue.get()
            if waiting is None:
                if group:
                    self._queue.put(None)
                break
            group.append(waiting)
            if len(group) == 1:
                self._linger()
        return group

    def _linger(self) -> None:
        until = time.monotonic() + LINGER_S
        while self._crowded() and time.monotonic() < until:
            time.sleep(LINGER_STEP_S)

    def _write(self, group: Sequence[_Waiting]) -> list[BaseException | None]:
        """Commit the group; per entry the error that kept it from being written, if any."""
        started = time.perf_counter()
        try:
            self._blobs.put_many(list({w.entry.image.sha256: w.entry.data for w in group}.values()))
            self._store.predictions.add_many([(w.entry.image, w.entry.prediction) for w in group])
        except Exception as exc:  # whatever it was, somebody waits to hear of it
            if len(group) > 1:
                return [self._write([w])[0] for w in group]
            log.exception("prediction %s could not be stored", group[0].entry.prediction.id)
            return [_withheld(exc)]
        self._on_commit([w.entry.prediction.model for w in group], time.perf_counter() - started)
        return [None] * len(group)

    def _settle(self, group: Sequence[_Waiting], errors: Sequence[BaseException | None]) -> None:
        """Wake each event loop once for all of its entries."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, BaseException | None]]] = {}
        for waiting, error in zip(group, errors, strict=True):
            by_loop.setdefault(waiting.future.get_loop(), []).append((waiting, error))
        for loop, settled in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle_all, settled)


def _settle_all(settled: Sequence[tuple[_Waiting, BaseException | None]]) -> None:
    for waiting, error in settled:
        waiting.settle(error)


def _withheld(exc: Exception) -> Exception:
    """NotReady in the disk's or database's own words; a mistake of ours stays what it is."""
    if not isinstance(exc, FAILURES):
        return exc
    return NotReady(f"the answer could not be stored, so it is withheld: {first_line(exc)}")
