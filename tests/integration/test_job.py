"""What a run learns from: all that its parent does not know, and a bounded part of what it does."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import store_parts
import tiny_house

from redpencil.blobs import Blobs
from redpencil.errors import BadInput
from redpencil.settings import Settings
from redpencil.snapshot import side_of
from redpencil.store import Store
from redpencil.types import Doubt, Image, Member, ModelVersion, RunState, Snapshot, Split, Task
from training.freeze import freeze
from training.job import Job


@pytest.fixture(autouse=True)
def _recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPENCIL_RECIPES", str(tiny_house.RECIPES))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return tiny_house.furnish(tmp_path, lines=30)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(settings.database) as opened:
        yield opened


def a_job(settings: Settings, store: Store, **params: object) -> Job:
    return freeze(store, store.runs.get(tiny_house.queue(settings, **params)), settings)


def a_version_of(job: Job, store: Store, settings: Settings) -> str:
    """A version that learned what the job would learn; the next run goes on from it."""
    bundle = store.versions.get(settings.model, "1").bundle
    made = ModelVersion(settings.model, "2", bundle, time.time(), "1", job.snapshot.id, job.run.id)
    store.versions.add(made)
    store.runs.update(job.run.id, state=RunState.FAILED)  # one at a time may be waiting
    return made.version


def ids(members: list[Member]) -> set[str]:
    return {m.correction for m in members}


def test_all_is_new_to_the_first_version(settings: Settings, store: Store) -> None:
    job = a_job(settings, store)
    assert job.new == job.members
    assert job.again == []


def test_what_the_parent_knows_is_met_again_within_a_bound(settings: Settings, store: Store) -> None:
    first = a_job(settings, store)
    parent = a_version_of(first, store, settings)
    tiny_house.correct(store, Blobs.open(settings.blobs), 8, first=30)
    job = a_job(settings, store, parent=parent, earlier=5)
    assert ids(job.new) == ids(job.members) - ids(first.members)
    assert 0 < len(job.new) <= 8
    assert len(job.again) == max(5, len(job.new))
    assert ids(job.again) < ids(first.members)
    given = job.lines(Blobs.open(settings.blobs))
    assert {line.key for line in given.learn} <= ids(job.new)
    assert {line.key for line in given.again} <= ids(job.again)
    every = (*given.learn, *given.again, *given.validate)
    assert {line.key for line in every} == ids(job.new) | ids(job.again)


def test_nothing_new_is_no_reason_not_to_learn(settings: Settings, store: Store) -> None:
    first = a_job(settings, store)
    job = a_job(settings, store, parent=a_version_of(first, store, settings))
    assert (job.new, ids(job.again)) == ([], ids(first.members))


def test_what_a_run_left_out_is_new_to_the_next(settings: Settings, store: Store) -> None:
    first = a_job(settings, store)
    parent = a_version_of(first, store, settings)
    left = first.members[0].correction
    store.doubts.add_many([Doubt(first.run.id, left, time.time(), 0.9, left_out=True)])
    assert ids(a_job(settings, store, parent=parent).new) == {left}


def read_surely(store: Store, settings: Settings, lines: int) -> None:
    """Lines that nobody corrected, each of a document of its own, every second one read badly."""
    for number in range(lines):
        sure = 0.95 if number % 2 else 0.5
        read = [store_parts.block(0, "abc", sure), store_parts.block(1, "", 1.0)]
        sheet = np.full((60, 110, 3), number, np.uint8)
        sha = Blobs.open(settings.blobs).put(cv2.imencode(".png", sheet)[1].tobytes())
        picture = Image(sha, f"unseen-{number}", "image/png", time.time())
        store.predictions.add_many([(picture, store_parts.prediction(picture, blocks=tuple(read)))])


def test_lines_that_nobody_corrected_are_rehearsed_as_they_were_read(
    settings: Settings, store: Store
) -> None:
    blobs = Blobs.open(settings.blobs)
    read_surely(store, settings, 20)
    assert a_job(settings, store).read == ()
    store.runs.update(store.runs.list()[0].id, state=RunState.FAILED)
    job = a_job(settings, store, unlabelled=100, replay=0.5, rehearsal=0)
    read_surely(store, settings, 30)  # too late for this run
    assert freeze(store, store.runs.get(job.run.id), settings).read == job.read
    groups = [m.group for m in job.read]
    wanted = [f"unseen-{n}" for n in range(19, 0, -2) if side_of(f"unseen-{n}") is Split.TRAIN]
    assert groups == wanted
    given = job.lines(blobs)
    assert [(x.text, x.key) for x in given.rehearse] == [("abc", "")] * len(wanted)
    assert {line.key for line in (*given.learn, *given.validate)} == ids(job.members)
    assert len(replace(job, read=job.read[:3]).lines(blobs).rehearse) == 3


def test_captions_do_not_learn_from_what_nobody_corrected(settings: Settings, store: Store) -> None:
    taken = Snapshot("0" * 64, Task.CAPTION, ())
    store.snapshots.put(taken)
    run = tiny_house.queue(settings)
    store.runs.update(run, snapshot=taken.id, params={"unlabelled": 10, "replay": 0.5, "parent": None})
    with pytest.raises(BadInput, match="readers of lines"):
        freeze(store, store.runs.get(run), settings)
