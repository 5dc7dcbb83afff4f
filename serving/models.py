"""All models of one replica: an engine each, over one database, blob store, journal and set of metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import cv2

from redpencil.blobs import Blobs
from redpencil.errors import NotFound, NotReady
from redpencil.patience import patiently
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Prediction
from serving.admission import Admission
from serving.engine import Engine, Shared
from serving.journal import Journal
from serving.metrics import Metrics
from serving.pool import Pool
from serving.reader import LineFinder

PATIENCE_S = 600.0
"""How long a replica waits for the database: of one that failed three times Ray Serve starts no other."""


def opened_store(settings: Settings) -> Store:
    """The database, its tables brought up to date; waits for one that starts later than the replica."""
    return patiently(lambda: Store.open(settings.database, migrate=True), PATIENCE_S)


class Models:
    """The OCR model, on which readiness depends, and the caption model beside it.

    Each has places, reader threads and mirrors of its own: a caption takes as long as hundreds of
    lines, and must not stand before them in a queue. The kernel divides the cores between the two.
    """

    def __init__(self, settings: Settings, finder: LineFinder, store: Store) -> None:
        settings.home.mkdir(parents=True, exist_ok=True)
        cv2.setNumThreads(1)  # the pools' threads are the parallelism
        self.store = store
        self.blobs = Blobs.open(settings.blobs)
        self.metrics = Metrics()
        self.journal = Journal(self.store, self.blobs, self.metrics.committed, self._readers_busy)
        shared = Shared(self.store, self.blobs, self.journal, self.metrics)
        engines = {model: Engine(model, settings, shared, finder) for model in settings.models}
        self.ocr, self.captions = engines[settings.model], engines[settings.caption_model]
        self._engines = engines
        self.unsorted = Admission(settings.queue_limit, settings.max_upload_bytes)  # bodies of no model yet
        self.intake = Pool(1, "intake")  # takes bodies apart; behind readings a refusal would come late

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._engines.values())

    def of(self, model: str) -> Engine:
        """The engine of a model; NotFound where it is not served here."""
        if model not in self._engines:
            raise NotFound(f"model {model!r} is not served here; {' and '.join(self._engines)} are")
        return self._engines[model]

    async def start(self) -> None:
        """Return when the OCR model that is wanted now is loaded and warm, or it is known why it cannot be.

        The caption model is loaded after it, while requests are answered already.
        """
        await asyncio.to_thread(self.ocr.follower.step)
        for engine in self:
            engine.follower.start()

    async def close(self) -> None:
        """Finish what is being written, then let go of everything."""
        for engine in self:
            await engine.close()
        for part in (self.intake, self.journal, self.store, self.blobs):
            await asyncio.to_thread(part.close)

    def check(self) -> None:
        """Raise where a thread that everything depends on has died."""
        if not (self.intake.alive and self.journal.alive and all(engine.alive for engine in self)):
            raise NotReady("a thread of this replica has died")

    async def prediction(self, prediction_id: str) -> Prediction:
        """A prediction that was answered at any time; NotFound if there is none."""
        return await asyncio.to_thread(self.store.predictions.get, prediction_id)

    def _readers_busy(self) -> bool:
        """More waits for the OCR readers than they can do while the journal commits."""
        return self.ocr.pool.queued > 2 * self.ocr.pool.size
