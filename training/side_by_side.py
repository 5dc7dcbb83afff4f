"""One batch on several cores: each takes some of its lines, instead of all sharing every operation.

The matrices of a small reader are too small to be divided: cores that share them wait for each
other, and the longer where another process wants one of them for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch
from torch import Tensor

from training.data import Batch


def threads(count: int, own: int = 1) -> ThreadPoolExecutor:
    """A pool of `count` threads that compute with `own` processors each; other threads keep theirs."""
    before, ready = torch.get_num_threads(), Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread that never asked would, at its first sum, begin with the default
        torch.set_num_threads(own)
        ready.wait()

    pool = ThreadPoolExecutor(count, initializer=begin)
    for _ in range(count):
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(before)  # what threads that come later begin with is for all of the process
    return pool


class SideBySide:
    """As many threads as torch has processors; deterministic for their number."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.count, self.parameters = torch.get_num_threads(), parameters
        self.pool = threads(self.count)

    def backward(self, batch: Batch, loss_of: Callable[[Batch], Tensor]) -> float:
        """Add a batch's gradient to the parameters'; returns its loss.

        `loss_of` gives the mean loss of some lines; it is called in several threads at once.
        """

        def part(share: Batch) -> tuple[float, Sequence[Tensor | None]]:
            loss = loss_of(share) * (len(share.widths) / len(batch.widths))
            return float(loss.detach()), torch.autograd.grad(loss, self.parameters, allow_unused=True)

        losses, gradients = zip(*self.pool.map(part, shares(batch, self.count)), strict=True)
        for parameter, *found in zip(self.parameters, *gradients, strict=True):
            for gradient in found:
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return float(sum(losses))


def shares(batch: Batch, count: int) -> list[Batch]:
    """The lines of a batch dealt out to at most `count` batches, none of them empty."""
    lines = torch.arange(len(batch.widths))
    texts = batch.targets.split(batch.target_lengths.tolist())
    return [_some(batch, texts, lines[start::count]) for start in range(min(count, len(lines)))]


def _some(batch: Batch, texts: Sequence[Tensor], chosen: Tensor) -> Batch:
    widths = batch.widths[chosen]
    features = batch.features[chosen][..., : int(widths.max())]
    targets = torch.cat([texts[i] for i in chosen.tolist()])
    return Batch(features, widths, targets, batch.target_lengths[chosen], batch.rehearsed[chosen])
