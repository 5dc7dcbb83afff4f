"""Which lines are like corrected ones, so that what corrections taught answers for those alone.

A reader that learned a few hundred lines of one kind reads other kinds worse, however it is held.
Lines of one kind lie close together in the features of a reader's frozen part, so a line is compared
with those that were corrected. How close is close enough is measured on these themselves, as in the
local outlier factor (Breunig et al., SIGMOD 2000): lines of one press are all alike, receipts of many
printers are not.

Some corrected lines are labelled in capitals whatever is printed (training/capitals.py). Whether a
line is to be written so as well, only lines that come very close to it can say: receipts and forms are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redpencil.reader import IN_CAPITALS
from training.capitals import Habit

NEAREST = 3
SHARE = 0.7
"""Of the likeness between a corrected line and those nearest to it; a line must come so close to it."""
LOWEST, HIGHEST = 0.2, 0.45
"""Cosines. Lines of another kind hardly come above HIGHEST; below LOWEST likeness says nothing."""
RENDERED = 0.5
"""The bar of an example that was rendered. Fonts differ among each other otherwise than prints and
hands do, so such examples are no measure for others, and a line must come closer to them."""
CLOSE = 0.6  # cosine to one example that is enough alone: the same letterhead, the same words again
SAME = 0.999  # cosine of a line with itself, seen again
ITSELF = 0.95  # the same however it was rounded
LIKE = 1  # what is said of a line that is like the examples, if not IN_CAPITALS; 0: it is not
FAR = 2.0  # taken off the likeness to an example that has no say
RIDGE = 0.1  # of the mean variance, added before whitening
MOST = 4096  # examples


class Familiar(nn.Module):
    """Says of features [B,C,1,V] which lines are like the examples, int64 [B]: 0, LIKE or IN_CAPITALS.

    `middle` [C] and `whiten` [C,C] take out how lines of all kinds differ; `examples` [C,E] are unit
    vectors, a line must on average be above the `bars` [E] of those that it is most above, or close to one.
    Examples that are read right untaught have FAR for a bar: they need no teaching, and make none familiar.
    A line is written in capitals where it is above CLOSE to an example that is, though printed small, and
    none with small letters is nearer: `capitals` and `small` [E] are 0 for these, FAR for others.
    """

    def __init__(
        self, middle: Tensor, whiten: Tensor, examples: Tensor, bars: Tensor, capitals: Tensor, small: Tensor
    ) -> None:
        super().__init__()
        self.middle: Tensor
        self.whiten: Tensor
        self.examples: Tensor
        self.bars: Tensor
        self.capitals: Tensor
        self.small: Tensor
        given = {"middle": middle, "whiten": whiten, "examples": examples, "bars": bars}
        for name, value in (given | {"capitals": capitals, "small": small}).items():
            self.register_buffer(name, value)

    @classmethod
    def of(cls, all_kinds: Sequence[Tensor]) -> Self:
        """One that knows no example yet, from features [C,1,V] of lines of many kinds."""
        middle, whiten = whitening(torch.cat([_mean(f.float()[None]) for f in all_kinds]))
        none = torch.zeros(0)
        return cls(middle, whiten, torch.zeros(len(middle), 0), none, none, none)

    def with_examples(
        self,
        lines: Sequence[Tensor],
        rendered: bool = False,
        known: Sequence[bool] = (),
        habits: Sequence[Habit] = (),
    ) -> Self:
        """The same with the features [C,1,V] of more lines, corrected or rendered, among its examples.

        `known` says which of them are read right untaught, `habits` how each is labelled; empty: nothing.
        """
        device, chosen = self.middle.device, some(len(lines))
        new = torch.cat([self.whitened(_mean(lines[i].float()[None].to(device))) for i in chosen])
        of_use = torch.tensor([not (known and known[i]) for i in chosen], device=device)
        said = [habits[i] if habits else None for i in chosen]
        every = torch.cat([self.examples.T, new])
        again = torch.triu(every @ every.T, 1).amax(0) > SAME
        own, real = torch.full((len(new),), FAR, device=device), self.bars <= HIGHEST
        if of_use.any():
            own[of_use] = bars_of(torch.cat([self.examples.T[real], new[of_use]]), int(real.sum()))
        if rendered:
            own.fill_(RENDERED)
        capitals, small = (
            torch.tensor([0.0 if s == h else FAR for s in said], device=device) for h in ("capitals", "small")
        )
        fresh, every = ~again[len(self.bars) :], every[~again]
        kept = some(len(every))
        before, added = (self.bars, self.capitals, self.small), (own, capitals, small)
        of_each = (torch.cat([old, more[fresh]])[kept] for old, more in zip(before, added, strict=True))
        return type(self)(self.middle, self.whiten, every[kept].T.contiguous(), *of_each)

    def whitened(self, means: Tensor) -> Tensor:
        """Mean features [B,C] as unit vectors."""
        return F.normalize((means - self.middle) @ self.whiten, dim=-1)

    def forward(self, features: Tensor, valid: Tensor | None = None) -> Tensor:
        """`valid` bool [B,V] says which columns are not padding; None: all."""
        likeness = self.whitened(_mean(features, valid)) @ self.examples
        known = self.bars == FAR
        nearest = (likeness - self.bars).topk(max(1, min(NEAREST, int((~known).sum()))), -1).values.mean(-1)
        close, right = _most(likeness, FAR * known), _most(likeness, FAR * ~known)
        like = ((nearest > 0) | (close > CLOSE)) & ~((right > ITSELF) & (right > close))
        capitals, small = _most(likeness, self.capitals), _most(likeness, self.small)
        in_capitals = (capitals > CLOSE) & (capitals > small)
        return torch.where(in_capitals, IN_CAPITALS, like.long())


def _most(likeness: Tensor, far: Tensor) -> Tensor:
    """Of likenesses [B,E] each line's greatest to an example that is not FAR."""
    most: Tensor = (likeness - far).amax(-1)
    return most


def _mean(features: Tensor, valid: Tensor | None = None) -> Tensor:
    """[B,C,1,V] -> [B,C], over the columns that are not padding."""
    if valid is None:
        return features.mean((2, 3))
    inside = valid[:, None, None].to(features.dtype)
    return (features * inside).sum((2, 3)) / inside.sum((2, 3))


def whitening(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The middle [D] of vectors [N,D], and the matrix [D,D] that takes out how these differ in general."""
    spread = torch.cov(vectors.T)
    ridge = RIDGE * spread.diagonal().mean()
    values, axes = torch.linalg.eigh(spread + ridge * torch.eye(len(spread)))
    return vectors.mean(0), axes / values.sqrt()


def some(count: int) -> list[int]:
    """Which of so many examples are kept, MOST at most; drawn once for all."""
    drawn: list[int] = np.random.default_rng(0).permutation(count)[:MOST].tolist()
    return sorted(drawn)


def bars_of(examples: Tensor, known: int = 0) -> Tensor:
    """How close a line must come to each of the unit vectors [E,C], those after the first `known`."""
    likeness = examples @ examples.T
    likeness = likeness.masked_fill(likeness > SAME, -1.0)[known:]  # a line is no neighbour of itself
    near = likeness.topk(min(NEAREST, likeness.shape[1]), -1).values
    few = near[:, -1] < 0  # hardly another line to measure by
    return (SHARE * near.mean(-1)).clamp(LOWEST, HIGHEST).masked_fill(few, HIGHEST)
