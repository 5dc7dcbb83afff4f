"""How far a run goes from its parent."""

import copy

import pytest
import torch

from training import reach
from training.reach import SHARES, least
from training.recipes import crnn


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

    assert reach.errors(parent, reader, 7, wrong) == [7, 1, 2]
    assert seen == pytest.approx(SHARES[1:], abs=1e-4)


@pytest.mark.parametrize("share", [1.0, 0.65, 0.1])
def test_a_run_goes_so_far_with_what_it_learns_and_leaves_the_rest(share: float) -> None:
    model = crnn.build(None, ["abc"], crnn.RECIPE.defaults).eval()
    learns, stays = (p for p in list(model.parameters())[:2])
    stays.requires_grad_(False)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    after = {n: p + 1.0 for n, p in before.items()}
    where = {id(p): n for n, p in model.named_parameters()}
    reach.go(model, before, after, share)
    torch.testing.assert_close(learns.detach() - before[where[id(learns)]], torch.full_like(learns, share))
    assert torch.equal(stays, before[where[id(stays)]])


def test_what_a_model_measures_while_it_learns_goes_the_same_way() -> None:
    model = crnn.build(None, ["abc"], crnn.RECIPE.defaults).eval()
    before, norm = reach.state(model), model.blocks[0].norm
    after = {name: value + 1.0 for name, value in before.items()}
    reach.go(model, before, after, 0.4)
    start = before["blocks.0.norm.running_mean"]
    torch.testing.assert_close(norm.running_mean - start, torch.full_like(start, 0.4))
