"""How far a run goes from its parent."""

import copy

import numpy as np
import pytest
import torch

from training import reach
from training.data import Line
from training.reach import SHARES, least
from training.recipes import crnn
from training.temper import SHARES as STEPS
from training.temper import temper


def test_the_shortest_way_that_reads_nearly_as_well_is_enough() -> None:
    assert least([[100, 101, 140], [100, 104, 100]]) == 0.65
    assert least([[40, 70, 90], [44, 60, 95]]) == 1.0
    assert least([[100, 90, 80]]) == 0.4
    assert least([[0, 0, 0], [0, 0, 0]]) == 0.4


def test_a_reader_is_measured_between_its_parent_and_itself() -> None:
    parent = crnn.build(None, ["abc"], crnn.RECIPE.defaults).eval()
    reader = copy.deepcopy(parent)
    weight = dict(reader.named_parameters())
    name = next(n for n, p in weight.items() if p.requires_grad)
    start = dict(parent.named_parameters())[name].detach().clone()
    with torch.no_grad():
        weight[name] += 1.0
    seen: list[float] = []

    def wrong(model: torch.nn.Module) -> int:
        seen.append(float((dict(model.named_parameters())[name].detach() - start).mean()))
        return len(seen)

    assert reach.errors(parent, reader, wrong) == [1, 2, 3]
    assert seen == pytest.approx(SHARES, abs=1e-4)


@pytest.mark.parametrize(("most", "kept"), [(1.0, 1.0), (0.65, 0.65), (0.1, 0.1)])
def test_a_run_goes_no_further(most: float, kept: float) -> None:
    model = crnn.build(None, ["abc"], crnn.RECIPE.defaults).eval()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    name = next(n for n, p in model.named_parameters() if p.requires_grad)
    with torch.no_grad():
        dict(model.named_parameters())[name] += 0.001
    lines = [Line(np.full((32, 64, 3), 255, np.uint8), "")]
    assert temper(model, before, lines, most) == kept
    moved = dict(model.named_parameters())[name].detach() - before[name]
    assert float(moved.mean()) == pytest.approx(0.001 * kept, rel=0.01)


def test_the_way_back_knows_these_steps() -> None:
    assert set(SHARES) <= set(STEPS)
