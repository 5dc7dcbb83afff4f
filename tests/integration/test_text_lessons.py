"""What an image-to-text model learns in a run that goes on from a version of its own."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pyarrow.fs import LocalFileSystem

from training import text_lessons, tokens
from training.crops import Line
from training.job import Lines
from training.loop import Loop
from training.place import Alone
from training.recipes import catr, vit_gated
from training.text_lessons import TextBatch, TextLessons
from training.track import NAMES

NEW, OLD = ["a red door", "a blue door"], [f"a house with {n} windows" for n in range(6)]
HYPER = replace(
    catr.RECIPE.defaults,
    backbone="resnet18",
    side=32,
    hidden=16,
    heads=2,
    inner=16,
    encoder_layers=1,
    decoder_layers=1,
    batch=4,
    report_every=1,
)


@pytest.fixture(scope="module")
def model() -> catr.Catr:
    return catr.build(None, [*NEW, *OLD], HYPER)


def lines(texts: list[str]) -> list[Line]:
    return [Line(np.zeros((32, 32, 3), np.uint8), text, text, "", text) for text in texts]


def texts(model: catr.Catr, batch: TextBatch) -> list[str]:
    tokenizer, end = model.tokenizer, model.generation.end
    return [tokenizer.decode([t for t in row if t >= 0 and t != end]) for row in batch.targets.tolist()]


def test_half_of_each_batch_is_known_already_and_others_come_in_turn(model: catr.Catr) -> None:
    lessons = TextLessons(model, Lines(lines(NEW), [], again=lines(OLD)), HYPER, 0, 1)
    met = [texts(model, batch) for epoch in range(3) for batch in lessons.epoch(epoch)]
    assert all(sorted(set(batch) & set(NEW)) == sorted(NEW) for batch in met)
    assert sorted(text for batch in met for text in batch if text in OLD) == OLD


def test_half_is_known_already_also_in_batches_of_one(model: catr.Catr) -> None:
    single = replace(HYPER, batch=1, report_every=12)
    lessons = TextLessons(model, Lines(lines(NEW), [], again=lines(OLD)), single, 0, 1)
    met = [text for batch in lessons.epoch(0) for text in texts(model, batch)]
    assert sorted(text for text in met if text in OLD) == OLD
    assert sum(text in NEW for text in met) == 6


def test_few_known_ones_are_met_as_often_as_new_ones(model: catr.Catr) -> None:
    many = [f"a garden with {n} roses" for n in range(18)]
    lessons = TextLessons(
        model, Lines(lines(many), [], again=lines(NEW)), replace(HYPER, report_every=5), 0, 1
    )
    met = [text for batch in lessons.epoch(0) for text in texts(model, batch)]
    assert sorted(text for text in met if text in NEW) == sorted(NEW), "two of the twenty that a pass has"
    assert len(met) == 20


def test_of_a_text_that_is_too_long_the_beginning_is_learned_without_an_end(
    model: catr.Catr, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "generation", replace(model.generation, longest=4))
    lessons = TextLessons(model, Lines(lines(NEW + OLD), []), replace(HYPER, batch=8), 0, 1)
    assert "6 of 8 texts have more than 4 tokens" in caplog.text
    (batch,) = lessons.epoch(0)
    ended = {}
    for text, row in zip(texts(model, batch), batch.targets.tolist(), strict=True):
        ended[" ".join(text.split()[:2])] = model.generation.end in row
    assert ended == {"a red": True, "a blue": True, "a house": False}


def test_what_looks_like_a_token_is_a_text_like_others(model: catr.Catr) -> None:
    assert model.generation.end not in model.spell("press [END] now")[:-1]
    pieces = vit_gated.pieces_of(["press [END] now", "[UNK]"], vit_gated.RECIPE.defaults)
    assert pieces.decode(tokens.plain(pieces, "press [END] now")) == "press [END] now"
    start, end = tokens.ends(pieces)
    assert pieces.encode("[START][END]").ids == [start, end], "elsewhere tokens are what they were"


def test_a_family_that_writes_no_capitals_is_marked_without_them(
    model: catr.Catr, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [text.capitalize() for text in NEW]
    lessons = TextLessons(model, Lines(lines(OLD), lines(said)), HYPER, 0, 1)
    right = [(model.spell(text)[:-1], [1.0]) for text in said]
    monkeypatch.setattr(text_lessons.generate, "generate", lambda decoder, memory, how: right)
    marks = lessons.mark()
    assert marks is not None
    assert (marks.exact, marks.cer) == (1.0, 0.0)


def test_where_nothing_is_known_all_is_new(model: catr.Catr) -> None:
    lessons = TextLessons(model, Lines(lines(NEW), []), HYPER, 0, 1)
    (batch,) = lessons.epoch(0)
    assert sorted(texts(model, batch)) == sorted(NEW + NEW)


def test_with_nothing_set_aside_some_of_what_is_learned_is_marked(model: catr.Catr) -> None:
    many = lines([f"a street with {n} trees" for n in range(80)])
    lessons = TextLessons(model, Lines(many, []), HYPER, 0, 1)
    assert len(lessons.held) == 16
    assert {line.text for line in many[:40]} & set(lessons.held)
    assert {line.text for line in many[40:]} & set(lessons.held)
    both = [TextLessons(model, Lines(many, []), HYPER, rank, 2).held for rank in (0, 1)]
    assert {**both[0], **both[1]} == lessons.held, "workers share them"
    marks = lessons.mark()
    assert marks is not None
    assert marks.score == marks.loss
    assert 0 <= marks.exact <= marks.cer


def test_where_lines_are_set_aside_these_are_marked(model: catr.Catr) -> None:
    lessons = TextLessons(model, Lines(lines(NEW), lines(OLD)), HYPER, 0, 1)
    assert list(lessons.held) == OLD


class Nobody:
    """Looks on and asks for nothing; a `training.loop.Watcher`."""

    def step(self, progress: dict[str, Any]) -> bool:
        return False

    def epoch(self, history: list[dict[str, Any]]) -> None:
        pass


@pytest.mark.parametrize(("aside", "named"), [([], "heart"), (OLD, "val")])
def test_every_epoch_says_what_was_marked(
    model: catr.Catr, tmp_path: Path, aside: list[str], named: str
) -> None:
    place = Alone(LocalFileSystem(), str(tmp_path))
    given = Lines(lines(NEW), lines(aside))
    ended = Loop(replace(HYPER, passes=0, steps=2), model, given, Nobody(), place).run()
    measures = {"loss", "cer", "wer", "exact", "bleu4", "rouge_l", "cider_d", "score"}
    assert [r["epoch"] for r in ended.history] == [0, 1, 2]
    for record in ended.history:
        marks = {k.removeprefix(f"{named}_") for k in record} - {"epoch", "step", "at", "lr", "lines_per_s"}
        assert marks == measures
    assert {f"{named}_{m}" for m in measures - {"score"}} <= set(NAMES)


def painted(texts: list[str]) -> list[Line]:
    rng = np.random.default_rng(0)
    return [replace(line, source=rng.integers(0, 256, (48, 60, 3), dtype=np.uint8)) for line in lines(texts)]


@pytest.mark.parametrize("loaders", [1, 3])
def test_threads_that_prepare_batches_change_none(model: catr.Catr, loaders: int) -> None:
    made, chance = [], []
    for hyper in (replace(HYPER, report_every=5), replace(HYPER, report_every=5, loaders=loaders)):
        lessons = TextLessons(model, Lines(painted(NEW), [], again=painted(OLD)), hyper, 0, 1)
        torch.manual_seed(3)
        made.append([batch for epoch in (0, 2) for batch in lessons.epoch(epoch)])
        chance.append(torch.rand(3))
    assert torch.equal(*chance), "dropout goes by torch's own seed"
    assert len(made[0]) == len(made[1]) == 10
    for one, other in zip(*made, strict=True):
        assert torch.equal(one.features, other.features)
        assert torch.equal(one.tokens, other.tokens)
        assert torch.equal(one.targets, other.targets)


def loading() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("loader")]


class Stopping(Nobody):
    """Asks to stop after the first step, and has seen who prepared the next ones."""

    def step(self, progress: dict[str, Any]) -> bool:
        self.seen = len(loading())
        return True


def test_a_cancelled_epoch_leaves_no_thread(model: catr.Catr, tmp_path: Path) -> None:
    hyper, stopping = replace(HYPER, passes=0, steps=40, report_every=40, loaders=2), Stopping()
    place = Alone(LocalFileSystem(), str(tmp_path))
    ended = Loop(hyper, model, Lines(painted(NEW), painted(OLD)), stopping, place).run()
    assert (ended.how, stopping.seen) == ("cancelled", 2)
    assert not loading()


def test_an_image_that_cannot_be_prepared_ends_the_run_when_its_turn_comes(
    model: catr.Catr, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [*painted(NEW), replace(painted(OLD)[0], source=np.zeros((0, 0, 3), np.uint8))]
    lessons = TextLessons(model, Lines(broken, []), replace(HYPER, report_every=3, loaders=2), 0, 1)
    with pytest.raises(cv2.error):
        list(lessons.epoch(0))
    assert not loading()


def test_a_pass_is_all_that_is_new_and_as_much_of_the_rest() -> None:
    assert Lines(lines(NEW), [], again=lines(OLD)).a_pass == 4
    assert Lines(lines(NEW), []).a_pass == 2
    assert Lines(lines(NEW), [], primer=lines(OLD)).a_pass == 2 + len(OLD), "all of the primer is met"
