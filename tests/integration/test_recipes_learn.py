"""Both recipes get better from corrected lines, in about a minute of one core each."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.learning.arms import begin, learn
from benchmarks.learning.sets import Unseen
from redpencil import linepack
from training.crops import Line
from training.data import rehearsal
from training.recipe import LineModel
from training.recipes import crnn, ppocr
from training.render import Wear, demo_font, demo_lines, draw, worn


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def black_letter(documents: int, seed: int) -> list[Line]:
    drawn = demo_lines(documents, seed)
    return [
        Line(np.repeat(d.image[:, :, None], 3, 2), d.text, f"{i}", d.document) for i, d in enumerate(drawn)
    ]


def error(lines: Unseen, model: LineModel) -> float:
    return lines.cer(lines.read(model))


def test_ppocr_learns_a_black_letter_and_forgets_nothing() -> None:
    corrected = black_letter(12, seed=1)
    hyper = replace(ppocr.RECIPE.defaults, steps=100, rehearsal=100, copies=2)
    model = begin(ppocr.RECIPE, corrected, hyper)
    own = Unseen.of("own", black_letter(6, seed=2), model)
    golden = Unseen.of("golden", [Line(x.image, x.text) for x in linepack.load("golden")[::10]], model)
    before, golden_before = error(own, model), golden.read(model)
    learn(model, corrected, hyper)
    model.know(corrected, rehearsal(hyper))
    assert before > 0.1, "the demo's type is one that the base reads badly"
    assert error(own, model) < before / 2
    assert golden.read(model) == golden_before


def test_crnn_learns_ten_lines_by_heart() -> None:
    words = ["red", "pencil", "reads", "ten", "lines", "by", "heart", "and", "then", "stops"]
    drawn = [worn(draw(word, demo_font()), Wear(height=32), np.random.default_rng(0)) for word in words]
    corrected = [Line(np.repeat(d[:, :, None], 3, 2), w) for d, w in zip(drawn, words, strict=True)]
    hyper = crnn.RECIPE.defaults.updated(
        {"start": "scratch", "lr": 2e-3, "steps": 250, "batch": 8, "passes": 0, "augment": 0.0, "replay": 0.0}
    )
    model = crnn.build(None, [line.text for line in corrected], hyper)
    learn(model, corrected, hyper)
    assert error(Unseen.of("own", corrected, model.eval()), model) < 0.05


def test_crnn_knows_latin_print_before_it_learns_anything() -> None:
    print_ = [line for line in linepack.load("golden") if max(line.text) < "\u2e80"][::8]
    model = crnn.build(None, []).eval()
    assert error(Unseen.of("golden", [Line(x.image, x.text) for x in print_], model), model) < 0.05
