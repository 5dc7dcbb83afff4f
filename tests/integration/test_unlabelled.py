"""What nobody corrected is learned from as the champion reads it, by families that start elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import store_parts
import tiny_bundle
import tiny_house

from redpencil.blobs import Blobs
from redpencil.errors import BadInput, Conflict
from redpencil.settings import Settings
from redpencil.snapshot import side_of
from redpencil.store import Store
from redpencil.types import Block, Image, RunState, Split, Task
from training import unlabelled
from training.freeze import freeze, teacher
from training.job import Job
from training.recipes import crnn, ppocr
from training.unlabelled import ask


@pytest.fixture(autouse=True)
def _recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPENCIL_RECIPES", str(tiny_house.RECIPES))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return tiny_house.furnish(tmp_path, lines=12)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(settings.database) as opened:
        yield opened


def answered(store: Store, settings: Settings, texts: list[str], first: int = 0) -> None:
    """Lines that an older version read, each of a document of its own."""
    for number, text in enumerate(texts, first):
        line = tiny_bundle.paint(text)
        height, width = line.shape[:2]
        sha = Blobs.open(settings.blobs).put(cv2.imencode(".png", line)[1].tobytes())
        picture = Image(sha, f"unseen-{number}", "image/png", time.time())
        box = ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
        block = Block("p0-b0", 0, box, "what an older version read", 0.3)
        store.predictions.add_many([(picture, store_parts.prediction(picture, blocks=(block,)))])


def a_job(settings: Settings, store: Store, recipe: str = "crnn", **params: object) -> Job:
    params = {"replay": 0.5, **params}
    return freeze(store, store.runs.get(tiny_house.queue(settings, recipe, **params)), settings)


WORDS = ["abc", "hello", "fade", "good", "dab", "cabbage", "bead", "face", "gag", "hide", "jade", "lake"]


def test_they_are_read_anew_and_rehearsed(settings: Settings, store: Store) -> None:
    blobs = Blobs.open(settings.blobs)
    answered(store, settings, WORDS)
    job = a_job(settings, store, unlabelled=100, rehearsal=0)
    answered(store, settings, ["late"], first=len(WORDS))  # too late for this run
    job = ask(job, store, blobs)
    train = [n for n in range(len(WORDS)) if side_of(f"unseen-{n}") is Split.TRAIN]
    assert [m.group for m in job.read] == [f"unseen-{n}" for n in reversed(train)], "the newest first"
    misread = {w: "".join(tiny_house.MISREAD.get(c, c) for c in w) for w in WORDS}
    assert [m.text for m in job.read] == [misread[WORDS[n]] for n in reversed(train)]
    given = job.lines(blobs)
    assert [(x.text, x.key) for x in given.read] == [(m.text, "") for m in job.read]
    assert {line.key for line in given.learn} == {m.correction for m in job.members}


def test_of_a_page_with_one_correction_the_other_lines_are_read(settings: Settings, store: Store) -> None:
    member = a_job(settings, store).members[0]
    (x0, y0), (x1, _), (_, y1), _ = member.polygon
    drawn = ((x0 - 3, y0), (x1 + 2, y0), (x1 + 2, y1 + 4), (x0 - 3, y1 + 4))  # of another reading
    below = ((x0, y1), (x1, y1), (x1, 2 * y1), (x0, 2 * y1))
    blocks = (Block("p0-b0", 0, drawn, "corrected", 0.3), Block("p0-b1", 0, below, "not corrected", 0.3))
    picture = Image(member.image, member.group, "image/png", time.time())
    store.predictions.add_many([(picture, store_parts.prediction(picture, blocks=blocks))])
    store.runs.update(store.runs.list()[0].id, state=RunState.FAILED)
    found = unlabelled.waiting(a_job(settings, store), store)
    assert [(m.text, m.polygon) for m in found] == [("not corrected", below)]


def test_a_run_that_is_taken_up_again_asks_nobody(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs.open(settings.blobs)
    answered(store, settings, WORDS)
    job = a_job(settings, store, unlabelled=3)
    first = ask(job, store, blobs)
    assert len(first.read) == 3
    monkeypatch.setattr(unlabelled, "open_reader", None)
    again = freeze(store, store.runs.get(job.run.id), settings)
    assert ask(again, store, blobs) == first


def test_what_the_champion_is_not_sure_of_is_not_learned(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(store, settings, WORDS)
    monkeypatch.setattr(unlabelled, "SURE", 1.1)
    assert ask(a_job(settings, store, unlabelled=100), store, Blobs.open(settings.blobs)).read == ()


def test_nobody_teaches_itself(settings: Settings, store: Store) -> None:
    with pytest.raises(BadInput, match="cannot teach a run that goes on from it"):
        a_job(settings, store, parent="1", unlabelled=5)
    store.runs.update(store.runs.list()[0].id, state=RunState.FAILED)
    job = a_job(settings, store, parent="1", teacher="2", unlabelled=5)
    assert job.run.params["teacher"] == "2", "a person may name another"


def test_a_teacher_without_lines_to_read_is_refused(settings: Settings, store: Store) -> None:
    with pytest.raises(BadInput, match="unlabelled=NUMBER"):
        a_job(settings, store, teacher="2")


def test_of_each_batch_few_are_lines_that_were_corrected_where_few_were() -> None:
    usual = crnn.RECIPE.defaults
    assert usual.beside(16, 0) == usual
    assert usual.beside(16, 2000).replay == 0.9
    assert usual.beside(500, 2000).replay == 0.8
    assert usual.beside(2000, 100).replay == usual.replay


def test_who_cannot_gain_from_it_is_told_why(settings: Settings, store: Store) -> None:
    assert teacher(store, settings.model, crnn.RECIPE, Task.OCR) == "1"
    with pytest.raises(BadInput, match="learn its faults anew"):
        teacher(store, settings.model, ppocr.RECIPE, Task.OCR)
    with pytest.raises(BadInput, match="captioners learn from corrections"):
        teacher(store, settings.model, crnn.RECIPE, Task.CAPTION)
    with pytest.raises(Conflict, match="has none yet"):
        teacher(store, "nobody", crnn.RECIPE, Task.OCR)
