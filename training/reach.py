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
from torch import Tensor, nn

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
    before, after = state(parent), state(reader)
    found = [here]
    for share in SHARES[1:]:
        go(reader, before, after, share)
        found.append(wrong(reader))
    return found


def state(model: nn.Module) -> dict[str, Tensor]:
    """All of a model that may move, as it is now."""
    return {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}


def go(model: LineModel, before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float) -> None:
    """Put what learns, and what it measured on the way, so far from one state of the model to another."""
    still = {name for name, p in model.named_parameters() if not p.requires_grad}
    for name, value in model.state_dict().items():
        if name in before and name not in still:
            value.copy_(torch.lerp(before[name], after[name], share))


def least(found: Sequence[Sequence[int]]) -> float:
    """The smallest share that reads nearly as well as the best, all readers together."""
    total = np.sum(found, axis=0)
    return min(share for share, wrong in zip(SHARES, total, strict=True) if wrong <= NEARLY * total.min())
