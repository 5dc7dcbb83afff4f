"""One replica's work, from uploads to predictions that are on disk; knows no HTTP and no Ray."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from dataclasses import dataclass, replace

import cv2

from redpencil.blobs import Blobs
from redpencil.errors import NotFound, NotReady, RedpencilError
from redpencil.ids import new_id
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.traffic import Assignment
from redpencil.types import Image, Prediction, Task, Variant
from serving.admission import Admission
from serving.body import Asked
from serving.follow import Follower, Loader, Serving
from serving.journal import Entry, Journal
from serving.metrics import Metrics
from serving.pool import Pool
from serving.protocol import Options
from serving.reader import Desk, Limits, LineFinder, Reader, Reading, Upload

log = logging.getLogger(__name__)

BODIES_HELD = 8  # bodies of the largest size that may be in memory at once
Outcome = Prediction | BaseException


@dataclass(frozen=True)
class _Request:
    """What all images of one request share; `serving` is taken once."""

    id: str
    options: Options
    serving: Serving
    named: Reader | None


class Engine:
    """Admission, reading, journal and mirror of one model; made and used in one event loop."""

    def __init__(self, settings: Settings, finder: LineFinder) -> None:
        settings.home.mkdir(parents=True, exist_ok=True)
        cv2.setNumThreads(1)  # the pool's threads are the parallelism
        self.model = settings.model
        self.store = Store.open(settings.database, migrate=True)
        self.blobs = Blobs.open(settings.blobs)
        self.admission = Admission(settings.queue_limit, BODIES_HELD * settings.max_upload_bytes)
        self.pool = Pool(threads_of(settings))
        self.desk = Desk(self.pool, finder, Limits(settings.max_pixels, settings.max_pages))
        loader = Loader(self.store, self.blobs, self.model, settings.home / "bundles", settings.device, 1)
        replica = f"{socket.gethostname()}-{new_id('replica')}"
        self.follower = Follower(self.store, loader, self.model, replica, settings.poll_s)
        self.metrics = Metrics(self.model, lambda: self.admission.waiting, lambda: self.state.state.revision)
        self.journal = Journal(self.store, self.blobs, self.metrics.committed, self._readers_busy)
        self._mirrors: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> Serving:
        return self.follower.current

    async def start(self) -> None:
        """Return when what is wanted now is loaded and warm, or it is known why it cannot be."""
        await asyncio.to_thread(self.follower.start)

    async def close(self) -> None:
        """Finish what is being written, then let go of everything."""
        for task in self._mirrors:
            task.cancel()
        await asyncio.gather(*self._mirrors, return_exceptions=True)
        for part in (self.follower, self.pool, self.journal, self.store, self.blobs):
            await asyncio.to_thread(part.close)

    def check(self) -> None:
        """Raise where a thread that everything depends on has died."""
        if not (self.journal.alive and self.follower.alive and self.pool.alive):
            raise NotReady("a thread of this replica has died")

    def _readers_busy(self) -> bool:
        """More waits for the readers than they can do while the journal commits."""
        return self.pool.queued > 2 * self.pool.size

    async def ocr(self, asked: Asked, request_id: str) -> list[Outcome]:
        """One outcome per image, in order; an image's failure is its own. Busy if there is no place."""
        with self.admission.places(len(asked.uploads)):
            named = await self.named(asked.options.model_version)
            request = _Request(request_id, asked.options, self.follower.current, named)
            answers = [self._answer(upload, request) for upload in asked.uploads]
            return await asyncio.gather(*answers, return_exceptions=True)

    async def prediction(self, prediction_id: str) -> Prediction:
        """A prediction that was answered at any time; NotFound if there is none."""
        return await asyncio.to_thread(self.store.predictions.get, prediction_id)

    async def named(self, version: str | None) -> Reader | None:
        """The reader of a version that a client asks for, loaded if need be; NotFound if unknown."""
        if version is None:
            return None
        served = self.follower.current.readers.get(version)
        return served or await asyncio.to_thread(self.follower.reader, version)

    async def _answer(self, upload: Upload | RedpencilError, request: _Request) -> Prediction:
        if isinstance(upload, RedpencilError):
            raise upload
        started = time.perf_counter()

        def choose(sha256: str) -> tuple[Reader, Assignment]:
            if request.named:
                return request.named, Assignment(request.named.version, Variant.EXPLICIT, mirror=False)
            return request.serving.assign(request.options.client_key or sha256)

        sha256, assignment, reading = await self.desk.read(upload, request.options.mode, choose)
        prediction = _prediction(sha256, assignment, reading, request)
        await self.journal.put(_entry(upload, prediction))
        arm = (prediction.version, prediction.variant.value)
        self.metrics.answered(*arm, len(reading.blocks), reading.seconds, time.perf_counter() - started)
        if assignment.mirror:
            self._mirror(upload, prediction, reading, request.serving)
        return prediction

    def _mirror(self, upload: Upload, prediction: Prediction, reading: Reading, serving: Serving) -> None:
        """Have the challenger read it too, where there is time; nobody waits for it."""
        if self.admission.crowded or len(self._mirrors) * 2 >= self.admission.limit:
            return self.metrics.mirrored("dropped")
        task = asyncio.create_task(self._reread(upload, prediction, reading, serving))
        self._mirrors.add(task)
        task.add_done_callback(self._mirrors.discard)

    async def _reread(self, upload: Upload, prediction: Prediction, first: Reading, serving: Serving) -> None:
        reader = serving.readers[str(serving.state.challenger)]
        try:
            reading = await self.desk.read_again(upload, first, reader)
            await self.journal.put(_entry(upload, _shadow(prediction, reading, reader.version)))
            self.metrics.mirrored("read")
        except Exception:
            log.exception("the mirrored reading of %s failed", prediction.id)
            self.metrics.mirrored("failed")


def threads_of(settings: Settings) -> int:
    """How many lines are read at once."""
    return settings.threads or len(os.sched_getaffinity(0))


def _prediction(sha256: str, assignment: Assignment, reading: Reading, request: _Request) -> Prediction:
    return Prediction(
        id=new_id("pred"),
        created_at=time.time(),
        image=sha256,
        task=Task.OCR,
        model=request.serving.state.model,
        version=assignment.version,
        variant=assignment.variant,
        pages=reading.pages,
        blocks=reading.blocks,
        latency_ms=reading.seconds * 1000,
        revision=request.serving.state.revision,
        request_id=request.id,
        client_key=request.options.client_key,
    )


def _shadow(prediction: Prediction, reading: Reading, version: str) -> Prediction:
    """What the challenger read of the same regions, tied to the answer that was given."""
    return replace(
        prediction,
        id=new_id("pred"),
        created_at=time.time(),
        version=version,
        variant=Variant.CHALLENGER,
        blocks=reading.blocks,
        latency_ms=reading.seconds * 1000,
        mirror_of=prediction.id,
    )


def _entry(upload: Upload, prediction: Prediction) -> Entry:
    group = upload.group or prediction.image
    media_type = upload.media_type or "application/octet-stream"
    return Entry(upload.data, Image(prediction.image, group, media_type, prediction.created_at), prediction)


def whole(outcome: Outcome) -> Prediction:
    """The prediction, or its error raised."""
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def require(model: str, engine: Engine) -> None:
    """NotFound for a model that is not served here."""
    if model != engine.model:
        raise NotFound(f"model {model!r} is not served here; {engine.model!r} is")


def require_ready(engine: Engine) -> None:
    """NotReady, with the reason, until the champion is loaded and warm."""
    why = engine.follower.why_not_ready()
    if why:
        raise NotReady(why)
