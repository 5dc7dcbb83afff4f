"""A model that writes text about an image token by token: what every such family has in common.

A family says how an image becomes memory (`encode`) and how tokens go on from it (`decode`). Training
is decoding with the whole text at once, and serving is decoding with one token at a time: the same
function, so both agree.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from redpencil.bundle import Generation, Manifest
from redpencil.pixels import Pixels
from training import tokens
from training.augment import augment
from training.learner import Learner, Lessons

if TYPE_CHECKING:
    from training.crops import Line
    from training.hyper import Hyper
    from training.job import Lines

Named = dict[str, Tensor]


class ImageToText(Learner):
    """See the module. Tensors of `memory` are [B, ...]; those of `past` and `new` [B, h, T, d]."""

    tokenizer: Tokenizer
    generation: Generation
    past_shapes: dict[str, tuple[int, int]]
    """Name, heads and size of what decoding keeps of every token."""
    shape: dict[str, Any]
    """What a bundle must say so that `build` can make the same model again; goes into the lineage."""

    best_by: Literal["cer", "cider_d"] = "cider_d"
    """The measure by which the best checkpoint is chosen."""
    compared: str | None = None
    """The memory by which images are compared with corrected ones; None: the parent's reader is not kept."""
    augment: Callable[[Pixels, np.random.Generator, float], Pixels] = staticmethod(augment)
    """Another look at an image, by a strength; the default leaves text readable."""

    def features(self, images: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,...]: the part that never learns. The identity where there is none."""
        return images

    @abstractmethod
    def encode(self, features: Tensor) -> Named:
        """[B,...] -> what decoding looks at, computed once per image."""

    @abstractmethod
    def decode(self, tokens: Tensor, length: Tensor, memory: Named, past: Named) -> tuple[Tensor, Named]:
        """Tokens [B,S] behind `length` [B] valid past positions -> logits [B,S,V], keys and values [B,h,S,d].

        Past positions from `length` on are padding. A token -k-1 is the k-th row of memory["prefix"].
        """

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Logits [B,S,V] behind each of the tokens [B,S], every one seeing those before it."""
        nothing = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
        none = {n: features.new_zeros(len(tokens), h, 0, d) for n, (h, d) in self.past_shapes.items()}
        return self.decode(tokens, nothing, self.encode(features), none)[0]

    def spell(self, text: str) -> list[int]:
        """The tokens to be written for a text, with the end; of one that is too long the beginning alone."""
        ids = [*tokens.plain(self.tokenizer, text), self.generation.end]
        return ids[: self.generation.longest]

    def lessons(self, lines: Lines, hyper: Hyper, rank: int = 0, world: int = 1) -> Lessons:
        from training.text_lessons import TextLessons

        return TextLessons(self, lines, hyper, rank, world)

    def to_bundle(self, folder: Path, lines: Sequence[Line], lineage: dict[str, Any]) -> Manifest:
        from training.export_text import to_bundle

        return to_bundle(self, folder, lines, lineage)

    def keep_before(self, folder: Path, parent: Path, new: Sequence[Line], known: Sequence[Line]) -> None:
        from training.nearer import keep

        if self.compared:
            keep(folder, parent, self.compared, new, known)


def visible(length: Tensor, past: int, steps: int) -> Tensor:
    """Which positions each new token sees: bool [B, 1, S, T+S], True is seen.

    All of the past that is valid, itself, and the new ones before it.
    """
    positions = torch.arange(past + steps, device=length.device)
    old = (positions[None, None, :] < length[:, None, None]).expand(-1, steps, -1)
    step = torch.arange(steps, device=length.device)[:, None]
    new = (positions >= past) & (positions - past <= step)
    return (old & (positions < past) | new)[:, None]


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
    """Softmax attention: [B,h,S,d] over [B,h,T,d], where `seen` bool broadcasts to [B,h,S,T]."""
    weights: Tensor = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if seen is not None:
        weights = weights.masked_fill(~seen, torch.finfo(weights.dtype).min)
    return weights.softmax(-1) @ value


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B,T,h*d] -> [B,h,T,d]."""
    cut: Tensor = x.unflatten(-1, (heads, -1))
    return cut.transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B,h,T,d] -> [B,T,h*d]."""
    return x.transpose(1, 2).flatten(2)


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """The mean over the targets that are not -100, in natural units."""
    flat = logits.float().flatten(0, 1)
    return F.cross_entropy(flat, targets.flatten(), ignore_index=-100, label_smoothing=smoothing)
