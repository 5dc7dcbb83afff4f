"""The classic small line reader: convolutions, two bidirectional LSTM layers, CTC.

It starts from one that knows Latin print, which training/distil.py taught, or from nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from redpencil import linepack, vocab
from redpencil.bundle import Manifest
from redpencil.errors import BadInput
from redpencil.language import Language
from redpencil.pixels import Preprocessing
from redpencil.types import Precision
from training.data import EASTERN
from training.hyper import Hyper
from training.recipe import LineModel, Recipe
from training.weights import Floats, fill, load_by_name, load_lstm

STAGES = (  # channels, stride, and the pooling (height, width) behind each convolution; 32 px become 1
    (32, 2, None),
    (64, 1, (2, 2)),
    (128, 1, None),
    (128, 1, (2, 1)),
    (192, 1, (2, 1)),
    (192, 1, (2, 1)),
)
HIDDEN = 192  # per direction
BLANK_BIAS = -1.0  # or the first thing learned is to say nothing
DISTILLED = "crnn.npz"


class Stage(nn.Module):
    """Convolution 3x3, batch norm, ReLU, pooling; columns that are padding stay zero."""

    def __init__(self, inner: int, outer: int, stride: int, pool: tuple[int, int] | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outer)
        self.pool = pool

    def forward(self, x: Tensor, widths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = F.relu(self.norm(self.conv(x)))
        if self.pool:
            x = F.max_pool2d(x, self.pool)
        if widths is None:
            return x, None
        stride = self.conv.stride[1]
        widths = (widths + stride - 1) // stride // (self.pool[1] if self.pool else 1)
        inside = torch.arange(x.shape[-1], device=x.device) < widths[:, None]
        return x * inside[:, None, None], widths


class CRNN(LineModel):
    """Everything learns, so images are their own features: [B,3,32,W]."""

    preprocessing = Preprocessing(height=32, channels="rgb", mean=(0.5,) * 3, std=(0.5,) * 3)

    def __init__(self, alphabet: tuple[str, ...]) -> None:
        super().__init__()
        self.alphabet = alphabet
        inner = [3, *(shape[0] for shape in STAGES)]
        self.blocks = nn.ModuleList(Stage(i, *shape) for i, shape in zip(inner, STAGES, strict=False))
        self.lstm = nn.LSTM(STAGES[-1][0], HIDDEN, num_layers=2, bidirectional=True, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Conv1d(2 * HIDDEN, len(alphabet) + 1, 1)
        self.biases[0] = BLANK_BIAS

    @property
    def biases(self) -> Tensor:
        """How likely each class is by itself, the blank first."""
        assert self.head.bias is not None  # a convolution has one unless told otherwise
        return self.head.bias.data

    def forward(self, features: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = features
        for stage in self.blocks:
            x, widths = stage(x, widths)
        x = x.squeeze(2).transpose(1, 2)
        with exact(x.device):
            x = self._along(x.float() if x.device.type == "cuda" else x, widths)
        if widths is None:
            widths = torch.full((x.shape[0],), x.shape[1])
        return self.head(self.drop(x).transpose(1, 2)).transpose(1, 2), widths

    def _along(self, x: Tensor, widths: Tensor | None) -> Tensor:
        """[B,T,C] -> [B,T,2*HIDDEN], each line read from both of its ends."""
        if widths is None:
            whole: Tensor = self.lstm(x)[0]
            return whole
        packed = pack_padded_sequence(x, widths.cpu(), batch_first=True, enforce_sorted=False)
        read: Tensor = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]
        return read


def exact(device: torch.device) -> AbstractContextManager[Any]:
    """Single precision on a GPU, where autocast to bf16 would run an LSTM in FP16: gradients leave that."""
    return torch.autocast("cuda", enabled=False) if device.type == "cuda" else nullcontext()


@dataclass(frozen=True)
class Chosen(Hyper):
    """What crnn adds to the usual parameters."""

    start: Literal["distilled", "scratch"] = "distilled"  # where it has no parent


def build(parent: Path | None, texts: Iterable[str], hyper: Chosen | None = None) -> CRNN:
    """The distilled reader, one that knows nothing, or that of a crnn bundle, able to learn `texts`."""
    if parent is None:
        if hyper is not None and hyper.start == "scratch":
            return CRNN(vocab.grow((), texts))
        alphabet, stored = distilled()
        model = _grown(alphabet, texts, lambda model: fill(model, stored, DISTILLED))
        model.language = Language.of(text for text in linepack.texts("rehearsal") if max(text) < EASTERN)
        return model
    if hyper is not None and hyper.start == "scratch":
        raise BadInput("start=scratch goes on from no version: add --param parent=none")
    manifest = Manifest.load(parent)
    if manifest.lineage.get("recipe") != RECIPE.name:
        raise BadInput("crnn goes on from bundles of its own kind alone; leave --param parent out")
    graph = parent / manifest.graphs[Precision.FP32].file

    def read(model: CRNN) -> None:
        load_by_name(model, graph, but="lstm.")
        load_lstm(model.lstm, graph)
        model.language = Language.of_bundle(parent, manifest)

    return _grown(manifest.alphabet, texts, read)


def _grown(alphabet: tuple[str, ...], texts: Iterable[str], read: Callable[[CRNN], None]) -> CRNN:
    """A reader with weights for `alphabet`; characters that are new begin as the least likely."""
    model = CRNN(vocab.grow(alphabet, texts))
    read(model)
    model.biases[len(alphabet) + 1 :] = float(model.biases[: len(alphabet) + 1].min())
    return model


def kept() -> Traversable:
    return resources.files("redpencil") / "data" / DISTILLED


def distilled() -> tuple[tuple[str, ...], dict[str, Floats]]:
    """Alphabet and weights of the reader of Latin print that training/distil.py taught."""
    with kept().open("rb") as file:
        stored = dict(np.load(file, allow_pickle=False))
    alphabet = tuple(str(stored.pop("alphabet")))
    return alphabet, {name: array.astype(np.float32) for name, array in stored.items()}


RECIPE = Recipe(
    name="crnn",
    summary="trains a small fast CNN with two BiLSTM layers and CTC, from one that knows Latin print",
    defaults=Chosen(
        lr=1e-3,
        steps=0,
        many_passes=50,
        warmup=0.1,
        clip=5.0,
        weight_decay=1e-4,
        precision="bf16",
        rehearsed="latin",
        copies=0,
        patience=0,
    ),
    build=build,
    starts_from="own",
)
