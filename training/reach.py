"""How far a run goes from its parent at most, by readers of lines that they did not learn from.

A few lines pull a reader further than they can show: on the way back it reads their own domain as well,
and others much better (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022). Where
characters are new the whole way is needed, and with a primer it is always gone. So readers who
learned from one half of the lines go back step by step, and read the other half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from training.recipe import LineModel

SHARES = (1.0, 0.65, 0.4)
"""Of the way from the parent."""
NEARLY = 1.03
"""How many more characters may be wrong, as a ratio, for a shorter way to be as good as the best."""
FEWEST = 12
"""Lines, below which halves of them say nothing."""


def errors(parent: LineModel, reader: LineModel, here: int, wrong: Callable[[LineModel], int]) -> list[int]:
    """The wrong characters of a reader at each of SHARES, `here` at the first; it is left at the last."""
    before = {name: p.detach() for name, p in parent.named_parameters()}
    after = {name: p.detach().clone() for name, p in reader.named_parameters()}
    found = [here]
    for share in SHARES[1:]:
        go(reader, before, after, share)
        found.append(wrong(reader))
    return found


def go(model: LineModel, before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float) -> None:
    """Put what learns so far on the way from one state of the model to another."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad:
                p.copy_(torch.lerp(before[name], after[name], share))


def least(found: Sequence[Sequence[int]]) -> float:
    """The smallest share that reads nearly as well as the best, all readers together."""
    total = np.sum(found, axis=0)
    return min(share for share, wrong in zip(SHARES, total, strict=True) if wrong <= NEARLY * total.min())
