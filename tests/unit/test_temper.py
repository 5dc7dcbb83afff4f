"""A tuned model is taken back towards its parent only as far as it has forgotten."""

import sys
from pathlib import Path

import pytest
import tiny_bundle
import torch
from test_loop_pieces import perfect

from training.data import Line, rehearsal
from training.recipe import find
from training.temper import SHARES, temper, unrehearsed

TEXTS = ("abc", "hello", "gatekeeper", "zebra")
LINES = [Line(tiny_bundle.paint(t), t, t) for t in TEXTS]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch):
    """A tiny model that reads punched tape without an error."""
    monkeypatch.setenv("REDPENCIL_RECIPES", str(Path(__file__).parents[1] / "recipes"))
    find("tiny")
    return perfect(sys.modules["training.recipes.tiny"])


def state(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_what_forgets_nothing_is_kept_whole(model):
    before = state(model)
    with torch.no_grad():
        model.head.bias += 1.0  # the same for every class: reads as before
    after = state(model)
    assert temper(model, before, LINES) == 1.0
    assert torch.equal(model.state_dict()["head.bias"], after["head.bias"])


def test_what_forgets_everything_is_taken_back_until_it_reads_again(model):
    before = state(model)
    with torch.no_grad():
        model.head.weight.mul_(-0.6)  # at 0.65 of the way the sign turns, and with it the reading
        model.head.bias.mul_(-0.6)
    kept = temper(model, before, LINES)
    assert SHARES[-1] < kept < 0.65


def test_lines_that_were_rehearsed_never_measure_what_was_forgotten():
    hyper = find("ppocr").defaults
    trained = {line.image.tobytes() for line in rehearsal(hyper)}
    held = unrehearsed(hyper)
    assert held
    assert not trained & {line.image.tobytes() for line in held}
