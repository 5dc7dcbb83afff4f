"""One model's work, from uploads to predictions that are on disk; knows no HTTP and no Ray."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from dataclasses import dataclass, replace

from redpencil.blobs import Blobs
from redpencil.errors import Busy, NotReady, RedpencilError
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
from serving.reader import Desk, Limits, LineFinder, Reader, Reading, Upload

log = logging.getLogger(__name__)

HOW_TO_GET = {
    Task.OCR: "promote one: redpencil promote VERSION, or the alias champion in MLflow",
    Task.CAPTION: "train one on captions that you have (redpencil dataset FOLDER, then redpencil retrain "
    "--model {model}) or bring its weights (redpencil import RECIPE), and promote it in MLflow (the alias "
    "champion) or by redpencil promote VERSION --model {model}; docs/captions.md says more",
}
COMPANY = 4  # captions in work per core: most wait, without computing, for a run that they share
Outcome = Prediction | BaseException


@dataclass(frozen=True)
class _Request:
    """What all images of one request share; `serving` is taken once."""

    id: str
    asked: Asked
    task: Task
    serving: Serving
    named: Reader | None


@dataclass(frozen=True)
class Shared:
    """What all models of a replica use."""

    store: Store
    blobs: Blobs
    journal: Journal
    metrics: Metrics


class Engine:
    """Admission, reading and mirror of one model; made and used in one event loop."""

    def __init__(self, model: str, settings: Settings, shared: Shared, finder: LineFinder) -> None:
        self.model, self.task = model, settings.task_of(model)
        self.journal, self.metrics, self._versions = shared.journal, shared.metrics, shared.store.versions
        self.admission = Admission(settings.queue_limit, settings.max_upload_bytes)
        cores = threads_of(settings)
        self.pool = Pool(cores * (COMPANY if self.task is Task.CAPTION else 1), model, cores)
        self.loading = Pool(1, f"{model}-loading")  # of versions that clients name; it may take minutes
        self.desk = Desk(self.pool, finder, Limits(settings.max_pixels, settings.max_pages))
        cache = settings.home / "bundles"
        loader = Loader(shared.store, shared.blobs, model, cache, settings.device, settings.vlm_url, cores)
        replica = f"{socket.gethostname()}-{new_id('replica')}"
        self.follower = Follower(shared.store, loader, model, replica, settings.poll_s)
        self.metrics.watch(model, lambda: self.admission.waiting, lambda: self.state.state.revision)
        self._mirrors: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> Serving:
        return self.follower.current

    @property
    def alive(self) -> bool:
        return self.follower.alive and self.pool.alive and self.loading.alive

    def registered_at(self, version: str) -> float:
        """When a version was registered; asks the database."""
        return self._versions.get(self.model, version).created_at

    async def close(self) -> None:
        """Let the readings in work finish and drop the rest."""
        for task in self._mirrors:
            task.cancel()
        await asyncio.gather(*self._mirrors, return_exceptions=True)
        for part in (self.follower, self.pool, self.loading):
            await asyncio.to_thread(part.close)

    def why_not_ready(self) -> str | None:
        """None while the champion is loaded and warm, else the reason in words."""
        why = self.follower.why_not_ready()
        if why is None or not self.follower.without_champion:
            return why
        return f"{why}; {HOW_TO_GET[self.task].format(model=self.model)}"

    def require_ready(self) -> None:
        """NotReady, with the reason, until the champion is loaded and warm."""
        if why := self.why_not_ready():
            raise NotReady(why)

    async def read(self, asked: Asked, request_id: str) -> list[Outcome]:
        """One outcome per image, in order; an image's failure is its own. Busy if there is no place."""
        with self.admission.places(len(asked.uploads)):
            named = await self.named(asked.options.model_version)
            if named is None:
                self.require_ready()
            request = _Request(request_id, asked, self.task, self.follower.current, named)
            answers = [self._answer(upload, request) for upload in asked.uploads]
            return await asyncio.gather(*answers, return_exceptions=True)

    async def named(self, version: str | None) -> Reader | None:
        """The reader of a version that a client asks for, loaded if need be; NotFound if unknown."""
        if version is None:
            return None
        served = self.follower.current.readers.get(version)
        return served or await self.loading.lane().run(self.follower.reader, version)

    async def _answer(self, upload: Upload | RedpencilError, request: _Request) -> Prediction:
        if isinstance(upload, RedpencilError):
            raise upload
        started = time.perf_counter()

        def choose(sha256: str) -> tuple[Reader, Assignment]:
            if request.named:
                return request.named, Assignment(request.named.version, Variant.EXPLICIT, mirror=False)
            return request.serving.assign(request.asked.options.client_key or sha256)

        sha256, assignment, reading = await self.desk.read(upload, request.asked.mode, choose)
        prediction = _prediction(sha256, assignment, reading, request)
        await self.journal.put(_entry(upload, prediction))
        arm = (self.model, prediction.version, prediction.variant.value)
        self.metrics.answered(*arm, len(reading.blocks), reading.seconds, time.perf_counter() - started)
        if assignment.mirror:
            self._mirror(upload, prediction, reading, request.serving)
        return prediction

    def _mirror(self, upload: Upload, prediction: Prediction, reading: Reading, serving: Serving) -> None:
        """Have the challenger read it too, where there is time; nobody waits for it."""
        if self.admission.crowded or len(self._mirrors) * 2 >= self.admission.limit:
            return self.metrics.mirrored(self.model, "dropped")
        task = asyncio.create_task(self._reread(upload, prediction, reading, serving))
        self._mirrors.add(task)
        task.add_done_callback(self._mirrors.discard)

    async def _reread(self, upload: Upload, prediction: Prediction, first: Reading, serving: Serving) -> None:
        reader = serving.readers[str(serving.state.challenger)]
        try:
            with self.admission.body(len(upload.data)):
                reading = await self.desk.read_again(upload, first, reader)
                await self.journal.put(_entry(upload, _shadow(prediction, reading, reader.version)))
            self.metrics.mirrored(self.model, "read")
        except Busy:
            self.metrics.mirrored(self.model, "dropped")
        except Exception:
            log.exception("the mirrored reading of %s failed", prediction.id)
            self.metrics.mirrored(self.model, "failed")


def threads_of(settings: Settings) -> int:
    """How many lines are read at once, and on how many cores captions are."""
    return settings.threads or len(os.sched_getaffinity(0))


def _prediction(sha256: str, assignment: Assignment, reading: Reading, request: _Request) -> Prediction:
    return Prediction(
        id=new_id("pred"),
        created_at=time.time(),
        image=sha256,
        task=request.task,
        model=request.serving.state.model,
        version=assignment.version,
        variant=assignment.variant,
        pages=reading.pages,
        blocks=reading.blocks,
        latency_ms=reading.seconds * 1000,
        revision=request.serving.state.revision,
        request_id=request.id,
        client_key=request.asked.options.client_key,
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
