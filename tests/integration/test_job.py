"""What a run learns from: all that its parent does not know, and a bounded part of what it does."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_house

from redpencil.blobs import Blobs
from redpencil.errors import BadInput, Conflict
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Doubt, Member, ModelVersion, RunState
from training import crops
from training import freeze as freezing
from training.crops import Line
from training.freeze import freeze
from training.job import Job, Lines

WHITE = np.full((40, 200, 3), 255, np.uint8)


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


def test_a_run_begins_anew_where_it_is_told_to(settings: Settings, store: Store) -> None:
    assert a_job(settings, store).parent is not None
    store.runs.update(store.runs.list(settings.model)[0].id, state=RunState.FAILED)
    anew = a_job(settings, store, parent="none")
    assert (anew.parent, anew.run.params["parent"]) == (None, None)
    assert anew.members
    assert freeze(store, store.runs.get(anew.run.id), settings).parent is None, "and stays so when resumed"


def test_who_wants_no_doubt_says_so_in_a_word_that_is_known(settings: Settings, store: Store) -> None:
    run = tiny_house.queue(settings, doubt="of")
    with pytest.raises(BadInput, match="doubt must be bool, not 'of'"):
        freeze(store, store.runs.get(run), settings)
    assert store.runs.get(run).snapshot is None, "and is refused again when it is resumed"


def test_a_recipe_does_not_go_on_from_a_champion_of_another(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "recipe_of", lambda store, model, version, blobs: "crnn")
    with pytest.raises(Conflict, match="version 1, which is of recipe crnn; train with that"):
        a_job(settings, store)


def test_images_that_memory_has_no_room_for_are_decoded_when_they_are_looked_at(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, blobs = a_job(settings, store), Blobs.open(settings.blobs)
    kept = job.lines(blobs)
    monkeypatch.setattr(crops, "MOST_BYTES", 3 * kept.learn[0].image.nbytes)
    later = job.lines(blobs)
    sources = [line.source for line in (*later.learn, *later.validate)]
    assert 0 < sum(isinstance(source, np.ndarray) for source in sources) <= 4
    for one, other in zip(kept.learn, later.learn, strict=True):
        assert (one.key, one.text, one.place) == (other.key, other.text, other.place)
        assert np.array_equal(one.image, other.image)


def test_who_mirrors_images_learns_no_text(settings: Settings, store: Store) -> None:
    run = tiny_house.queue(settings, "catr")
    with pytest.raises(BadInput, match="no text is: train it for captions"):
        freeze(store, store.runs.get(run), settings)


def test_graphs_are_fitted_to_what_is_new_as_much_as_to_the_rest() -> None:
    def some(key: str, count: int) -> list[Line]:
        return [Line(WHITE, "abc", f"{key}{n}") for n in range(count)]

    lines = Lines(some("new", 60), [], some("base", 400), some("again", 400), [], some("read", 2000))
    shown = [line.key.rstrip("0123456789") for line in lines.shown()]
    assert {kind: shown.count(kind) for kind in shown} == {"new": 60, "again": 60, "read": 60, "base": 60}
    few = Lines(some("new", 5), [], some("base", 400), some("again", 20))
    assert len(few.shown()) == 5 + 20 + 40


def test_a_checkpoint_is_no_parameter_of_a_run_that_trains(settings: Settings, store: Store) -> None:
    with pytest.raises(BadInput, match="redpencil checkpoint RUN EPOCH"):
        a_job(settings, store, checkpoint="run_x/5")
