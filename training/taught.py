"""What a recogniser was taught by corrections, beside the base that never changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.recipe import FOLLOWED, likeliest, steps
from training.svtr import WIDTH, Dense, Neck
from training.weights import Floats

if TYPE_CHECKING:
    from training.recipes.ppocr import PPOCR

LOOKALIKES = 2  # classes per wanted one that training pushes down beside it
NEVER = -1e4  # logit of a character that the base does not know


class Taught(nn.Module):
    """What is learned from corrections: a neck, and a head for `classes` int64 [F], ascending."""

    def __init__(self, classes: Tensor) -> None:
        super().__init__()
        self.classes: Tensor
        self.register_buffer("classes", classes)
        self.neck = Neck()
        self.head = Dense(WIDTH, len(classes))


def more(before: Taught | None, neck: Neck, wanted: list[int], weight: Tensor, bias: Tensor) -> Taught:
    """What was taught before, now also for the wanted classes and their lookalikes.

    It starts as what reads now: the neck, and of a whole head `weight` [WIDTH,K] and `bias` [K], where
    nothing was taught before.
    """
    rows = F.normalize(weight, dim=0)
    alike = (rows[:, wanted].T @ rows).topk(min(LOOKALIKES, rows.shape[1]), -1).indices.flatten()
    known = before.classes if before else torch.zeros(0, dtype=torch.long)
    taught = Taught(torch.cat([torch.tensor(wanted), alike, known]).unique())
    taught.neck.load_state_dict((before.neck if before else neck).state_dict())
    taught.head.weight.data = weight[:, taught.classes]
    taught.head.bias.data = bias[taught.classes]
    if before:
        at = torch.searchsorted(taught.classes, known)
        taught.head.weight.data[:, at] = before.head.weight.data
        taught.head.bias.data[at] = before.head.bias.data
    return taught


class Joined(nn.Module):
    """The graph of a model that was taught something: both heads are one product, which is faster than two.

    Behind the K classes of the alphabet stand the taught ones once more. `bias` [2, ...] keeps out, for
    lines that the base reads and for those that it does not, what the other would say.
    """

    def __init__(self, model: PPOCR, taught: Taught) -> None:
        super().__init__()
        self.model, self.taught = model, taught
        own, count = len(taught.classes), len(model.head.bias)
        base = torch.cat([model.head.bias, torch.full((own,), NEVER)])
        learned = torch.cat([model.head.bias.index_fill(0, taught.classes, NEVER), taught.head.bias])
        self.weight = nn.Parameter(torch.cat([model.head.weight, taught.head.weight], 1))
        self.bias = nn.Parameter(torch.stack([base, learned]))
        self.names: Tensor
        self.register_buffer("names", torch.cat([torch.arange(count), taught.classes]))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        read, like = self.model.read(self.taught, self.model.features(image))
        logits = read @ self.weight + self.bias[(like > 0).long()][:, None]
        best, sure = likeliest(logits, FOLLOWED if self.model.language else 1)
        return *steps(self.names[best], sure), like


def apart(stored: Mapping[str, Floats], classes: int) -> dict[str, Floats]:
    """What a graph holds by the model's own names: the heads that were joined are two again."""
    if "names" not in stored:
        return dict(stored)
    weight, bias, names = stored["weight"], stored["bias"], stored["names"]
    heads = {"head.weight": weight[:, :classes], "head.bias": bias[0, :classes]}
    learned = {"taught.head.weight": weight[:, classes:], "taught.head.bias": bias[1, classes:]}
    return {**stored, **heads, **learned, "taught.classes": names[classes:]}
