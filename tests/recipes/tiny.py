"""A recipe of some hundred parameters for tests: it learns to read tiny_bundle's punched tape in seconds.

Tests make it known by REDPENCIL_RECIPES; REDPENCIL_TINY_PAUSE_S makes every batch take so long.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from redpencil import vocab
from redpencil.bundle import Manifest
from redpencil.pixels import Preprocessing
from training.hyper import Hyper
from training.recipe import FOLLOWED, LineModel, Recipe, likeliest

ROWS = 27
SURE = 8.0
"""Golden lines say nothing to it; were it unsure of them, each would be weighed at length, and twice."""


class Tiny(LineModel):
    """Every column of a line is classed by itself; the frozen part turns black to 1 and white to 0."""

    preprocessing = Preprocessing(ROWS, "gray", (0.0,), (1.0,), width_scale=0.5, pad_value=1.0)

    def __init__(self, alphabet: tuple[str, ...]) -> None:
        super().__init__()
        self.alphabet = alphabet
        self.sign = nn.Parameter(torch.tensor(-1.0), requires_grad=False)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(ROWS, len(alphabet) + 1)

    def features(self, images: Tensor) -> Tensor:
        """[B,1,27,W] -> [B,27,W]."""
        return (1 + self.sign * images).squeeze(1)

    def forward(self, features: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        time.sleep(float(os.environ.get("REDPENCIL_TINY_PAUSE_S", "0")) if self.training else 0)
        size, _, steps = features.shape
        logits = self.head(self.drop(features.transpose(1, 2)))
        return logits, torch.full((size,), steps) if widths is None else widths

    def heard(self, features: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits, lengths = self(features, widths)
        classes, sure = likeliest(SURE * logits, FOLLOWED)
        return classes, sure, torch.ones_like(lengths, dtype=torch.bool), lengths


def build(parent: Path | None, texts: Iterable[str], hyper: Hyper) -> Tiny:
    known = Manifest.load(parent).alphabet if parent else ()
    return Tiny(vocab.grow(known, texts))


RECIPE = Recipe(
    name="tiny",
    summary="reads punched tape, for tests",
    defaults=Hyper(
        lr=0.5,
        batch=8,
        steps=80,
        report_every=20,
        patience=0,
        replay=0.0,
        copies=1,
        augment=0.0,
        smoothing=0.0,
    ),
    build=build,
    starts_from="champion",
)
