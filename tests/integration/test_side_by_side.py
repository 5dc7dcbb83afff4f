"""Cores that take some lines of a batch each learn what one that takes them all learns."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from training.data import Batch, batched
from training.side_by_side import SideBySide, shares, threads

LENGTHS = ((9, 2), (12, 3), (7, 1), (12, 4), (10, 2))  # of features and of texts


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(0)
    items = [(torch.randn(4, width), torch.randint(1, 6, (text,))) for width, text in LENGTHS]
    return batched(items, torch.tensor([False, True, False, True, False]))


@pytest.fixture
def two() -> None:
    torch.set_num_threads(2)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.inner, self.head, self.unused = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(1, 1)

    def loss(self, batch: Batch) -> torch.Tensor:
        logits = self.head(self.inner(batch.features.transpose(1, 2)).relu())
        logp = logits.log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(logp, batch.targets, batch.widths, batch.target_lengths)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_the_shares_hold_every_line_once(batch: Batch, count: int) -> None:
    dealt = shares(batch, count)
    assert len(dealt) == min(count, len(LENGTHS))
    found = {
        (int(width), tuple(text.tolist()), bool(rehearsed), round(float(line.sum()), 4))
        for share in dealt
        for width, text, rehearsed, line in zip(
            share.widths,
            share.targets.split(share.target_lengths.tolist()),
            share.rehearsed,
            share.features,
            strict=True,
        )
    }
    assert {(width, len(text)) for width, text, _, _ in found} == set(LENGTHS)
    (whole,) = shares(batch, 1)
    assert {line for *_, line in found} == {round(float(line.sum()), 4) for line in whole.features}
    assert all(share.features.shape[-1] == int(share.widths.max()) for share in dealt)


def test_the_gradient_is_that_of_the_whole_batch(two: None, batch: Batch) -> None:
    model, beside = Tiny(), Tiny()
    whole = model.loss(batch)
    (2 * whole).backward()  # type: ignore[no-untyped-call]
    cores = SideBySide(list(beside.parameters()))
    losses = [cores.backward(batch, beside.loss) for _ in range(2)]  # the second adds to the first
    assert losses == pytest.approx([float(whole.detach())] * 2, abs=1e-5)
    for (name, wanted), got in zip(model.named_parameters(), beside.parameters(), strict=True):
        assert (got.grad is None) == (wanted.grad is None) == name.startswith("unused"), name
        if wanted.grad is not None:
            torch.testing.assert_close(got.grad, wanted.grad)


def test_what_goes_wrong_in_a_thread_is_raised(two: None, batch: Batch) -> None:
    def broken(share: Batch) -> torch.Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        SideBySide(list(Tiny().parameters())).backward(batch, broken)


def test_other_threads_keep_their_processors(two: None) -> None:
    pool = threads(2)
    assert list(pool.map(lambda _: torch.get_num_threads(), range(2))) == [1, 1]
    assert torch.get_num_threads() == 2
    assert threads(1, 2).submit(torch.get_num_threads).result() == 2
