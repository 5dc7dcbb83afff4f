"""Corrections that a run had better not learn from: left out, with a reason, until a person has looked."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import cast

import torch

from redpencil.blobs import Blobs
from redpencil.bundle import fetch
from redpencil.store import Store
from redpencil.suspects import BOUND, Suspicion, weigh
from redpencil.types import Correction, Doubt, Member, Split, Task
from training import crops, recipe, workers
from training.crops import Line
from training.doubt import Sight, Statement, see
from training.hyper import yes_or_no
from training.job import Job
from training.learner import Learner
from training.recipe import LineModel

log = logging.getLogger(__name__)

MOST = 5
"""At most one in so many that a run sees first: where more look wrong, it is the readers who are."""
AT_ONCE = 2000
"""The newest that a run looks at; what it does not get to it learns from, and the next run looks."""
Stated = tuple[Member, Sequence[Correction]]
"""A correction, and all that was ever stated of its place."""


def quarantine(job: Job, store: Store, blobs: Blobs) -> Job:
    """The job without the corrections that are probably wrong.

    What the run thinks of each is kept in the store, and found there when the run is taken up again.
    Only corrections are looked at that no run has seen yet, and those that wait for a person: the
    work grows with what is new. Of held-out documents they are looked at as well, though nothing learns from
    them: a person shall see what the gate goes by, and what is left out does not hang on them. With
    doubt=false in its `params` a run learns from everything, and is told only how far it may go.
    """
    if job.taught_by != job.run.id:
        return _without(job, store.doubts.left_out(job.taught_by))
    wanted = yes_or_no("doubt", job.run.params.get("doubt", True))
    if job.snapshot.task is not Task.OCR:
        return job
    doubts, open = store.doubts.of_run(job.run.id), waiting(job, store) if wanted else []
    if not doubts and (open or "reach" not in job.run.params):
        found, far = _looked_at(job, store, blobs, open)
        job = replace(job, run=store.runs.update(job.run.id, params={"reach": far, **job.run.params}))
        doubts = found or _as_before(job, store, open)
        store.doubts.add_many(doubts)
    return _without(job, {d.correction for d in doubts if d.left_out})


def _without(job: Job, doubted: Set[str]) -> Job:
    train = {m.correction for m in job.snapshot.side(Split.TRAIN)}
    log.info("%s leaves out %d of %d corrections", job.run.id, len(train & doubted), len(train))
    return replace(job, left_out=frozenset(train & doubted))


def waiting(job: Job, store: Store) -> list[Member]:
    """In reading order what waits for a person, and the newest that no run has looked at or learned."""
    latest, confirmed = store.doubts.latest(), store.doubts.confirmed()
    open = [m for m in job.snapshot.members if m.correction not in confirmed]
    held = [m for m in open if m.correction in latest and latest[m.correction].left_out]
    fresh = [m for m in open if m.correction not in latest and m.correction not in job.known][-AT_ONCE:]
    return sorted([*held, *fresh], key=_reading_order)


def _reading_order(m: Member) -> tuple[object, ...]:
    return m.group, m.image, m.page, min(y for _, y in m.polygon), m.polygon


def _looked_at(job: Job, store: Store, blobs: Blobs, open: Sequence[Member]) -> tuple[list[Doubt], float]:
    """What readers make of them, and how far the run may go from its parent.

    The way is measured by all that is new, also by what was looked at before. Nothing where there is
    no parent, or it does not read lines by CTC.
    """
    looked = {m.correction: m for m in (*open, *job.new[-AT_ONCE:])}.values()
    history = store.corrections.history(job.snapshot.task)
    stated = [(m, history.get(m.correction, [])) for m in sorted(looked, key=_reading_order)]
    sight = _seen(job, blobs, stated)
    if sight is None:
        return [], 1.0
    # Whose place the parent learned with another text is not for it to judge: it knows that one by heart.
    amended = {m.correction for m, before in stated if any(c.id in job.known for c in before)}
    train = {m.correction for m, _ in stated if m.split is Split.TRAIN}
    beside = {Split.TRAIN: [s for s in sight.seen if s.correction in train], Split.HOLDOUT: sight.seen}
    settled, latest = store.doubts.settled(job.snapshot.task), store.doubts.latest()
    doubts = list[Doubt]()
    for side, seen in beside.items():
        weighed, here = weigh(seen, settled), {m.correction for m in open if m.split is side}
        held = len(here & latest.keys())  # as `waiting` chooses, left out before
        most = held + (len(here) - held) // MOST
        doubts += _doubts(job.run.id, [s for s in weighed if s.correction in here - amended], most)
    # A primer teaches letters that the readers of one half have hardly seen: it is gone all the way.
    return doubts, 1.0 if job.rendered else sight.reach


def _seen(job: Job, blobs: Blobs, stated: Sequence[Stated]) -> Sight | None:
    """What the parent and readers of one half see in the lines; None where there is nobody to look."""
    if job.parent is None or not stated:
        return None
    torch.set_num_threads(workers.threads(job.settings))
    folder = fetch(job.parent, blobs, job.settings.home / "bundles")
    family = recipe.find(job.run.recipe)
    spoken = {text for m, before in stated for text in (m.text, *(c.text for c in before))}

    def build() -> Learner:
        return family.build(folder, spoken, job.hyper)

    if not isinstance(build(), LineModel):
        return None
    most = job.settings.max_pixels, job.settings.max_pages
    cut = crops.lines([m for m, _ in stated], blobs, *most)
    said = [_statement(line, *of) for line, of in zip(cut, stated, strict=True)]
    return see(cast(Callable[[], LineModel], build), said, job.hyper)


def _doubts(run: str, weighed: Sequence[Suspicion], most: int) -> list[Doubt]:
    """What a run thinks of each, the most suspect first; of these it leaves out so many at most."""
    found, now = sorted(weighed, key=lambda s: -s.score), time.time()
    return [
        Doubt(run, s.correction, now, s.score, s.score >= BOUND and rank < most, s.why)
        for rank, s in enumerate(found)
    ]


def _as_before(job: Job, store: Store, open: Sequence[Member]) -> list[Doubt]:
    """The doubts of the runs before about what is still open."""
    latest, now = store.doubts.latest(), time.time()
    return [replace(latest[m.correction], run=job.run.id, at=now) for m in open if m.correction in latest]


def _statement(line: Line, of: Member, said: Sequence[Correction]) -> Statement:
    """A line with its author and the other texts that were stated of its place."""
    before = tuple(dict.fromkeys(c.text for c in said if c.text != line.text))
    return Statement(line, said[-1].author if said else "", before, of.split is Split.HOLDOUT)
