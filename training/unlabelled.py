"""Lines that nobody corrected, as what serves reads them: lessons for a family that starts elsewhere."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from redpencil.bench import served_precision
from redpencil.blobs import Blobs, write_durably
from redpencil.bundle import fetch
from redpencil.reader import open_reader, read_parallel
from redpencil.snapshot import side_of
from redpencil.store import Store
from redpencil.types import Member, Polygon, Split
from training import crops, workers
from training.job import Job

SURE = 0.9
"""Confidence with which the teacher reads a line that is learned from, at least."""


def ask(job: Job, store: Store, blobs: Blobs) -> Job:
    """The job with up to `unlabelled` lines of train images that nobody corrected, the newest first.

    They are read anew by the run's teacher, the version that served when the run began, and count where
    it is sure: what an older version read in its day may hold faults that were corrected since. A run
    that is taken up again finds what was read.
    """
    if not job.hyper.unlabelled:
        return job
    asked = list(islice(waiting(job, store), job.hyper.unlabelled))
    kept = job.folder / "read.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_durably(kept, json.dumps(_said(job, store, blobs, asked)).encode())
    said: dict[str, str] = json.loads(kept.read_text("utf-8"))
    read = (replace(m, text=said[m.correction]) for m in asked if m.correction in said)
    return replace(job, read=tuple(read))


def waiting(job: Job, store: Store) -> Iterator[Member]:
    """What the run may ask about, each line named after its prediction and block."""
    corrected, run = defaultdict[tuple[str, int], list[Polygon]](list), job.run
    for m in job.snapshot.members:
        corrected[m.image, m.page].append(m.polygon)
    for p, group in store.predictions.latest(run.model, run.created_at):
        if side_of(group) is Split.TRAIN:
            for b in p.blocks:
                if not any(_same_line(b.polygon, of) for of in corrected.get((p.image, b.page), ())):
                    yield Member(f"{p.id}/{b.id}", p.image, group, b.page, b.polygon, b.text, Split.TRAIN)


def _same_line(one: Polygon, other: Polygon) -> bool:
    """Whether the middle of either lies within the bounds of the other: people draw other boxes."""
    return _holds(one, other) or _holds(other, one)


def _holds(around: Polygon, inside: Polygon) -> bool:
    bounds = [(min(of), max(of)) for of in zip(*around, strict=True)]
    middle = [(min(of) + max(of)) / 2 for of in zip(*inside, strict=True)]
    return all(low <= at <= high for (low, high), at in zip(bounds, middle, strict=True))


def _said(job: Job, store: Store, blobs: Blobs, asked: Sequence[Member]) -> dict[str, str]:
    """What the teacher is sure of, by the names of the lines."""
    model, version = job.run.model, job.run.params["teacher"]
    folder = fetch(store.versions.get(model, version).bundle, blobs, job.settings.home / "bundles")
    teacher = open_reader(folder, served_precision(store, model, version), vlm=job.settings.vlm_url)
    lines = crops.lines(asked, blobs, job.settings.max_pixels, job.settings.max_pages)
    found = read_parallel(teacher, [line.image for line in lines], workers.threads(job.settings))
    read = zip(asked, found, strict=True)
    return {m.correction: r.text for m, r in read if r.text and r.confidence >= SURE}
