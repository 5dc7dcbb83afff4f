"""The classic line reader: convolutions, two bidirectional LSTM layers, CTC; from corrections alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from redpencil import vocab
from redpencil.bundle import Manifest
from redpencil.errors import BadInput
from redpencil.pixels import Preprocessing
from redpencil.types import Precision
from training.recipe import Hyper, LineModel, Recipe
from training.weights import load_by_name, load_lstm

STAGES = (  # channels, and the pooling (height, width) behind each convolution; 32 px become 1
    (32, (2, 2)),
    (64, (2, 2)),
    (128, None),
    (128, (2, 1)),
    (192, (2, 1)),
    (192, (2, 1)),
)
HIDDEN = 192  # per direction
BLANK_BIAS = -1.0  # or the first thing learned is to say nothing


class Stage(nn.Module):
    """Convolution 3x3, batch norm, ReLU, pooling; columns that are padding stay zero."""

    def __init__(self, inner: int, outer: int, pool: tuple[int, int] | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outer)
        self.pool = pool

    def forward(self, x: Tensor, widths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = F.relu(self.norm(self.conv(x)))
        if self.pool:
            x = F.max_pool2d(x, self.pool)
        if widths is None:
            return x, None
        widths = widths // (self.pool[1] if self.pool else 1)
        inside = torch.arange(x.shape[-1], device=x.device) < widths[:, None]
        return x * inside[:, None, None], widths


class CRNN(LineModel):
    """Everything learns, so images are their own features: [B,3,32,W]."""

    preprocessing = Preprocessing(height=32, channels="rgb", mean=(0.5,) * 3, std=(0.5,) * 3)

    def __init__(self, alphabet: tuple[str, ...]) -> None:
        super().__init__()
        self.alphabet = alphabet
        inner = [3, *(outer for outer, _ in STAGES)]
        self.stages = nn.ModuleList(Stage(i, o, pool) for i, (o, pool) in zip(inner, STAGES, strict=False))
        self.lstm = nn.LSTM(STAGES[-1][0], HIDDEN, num_layers=2, bidirectional=True, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Conv1d(2 * HIDDEN, len(alphabet) + 1, 1)
        self.head.bias.data[0] = BLANK_BIAS

    def forward(self, features: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = features
        for stage in self.stages:
            x, widths = stage(x, widths)
        x = x.squeeze(2).transpose(1, 2)
        if widths is None:
            widths = torch.full((x.shape[0],), x.shape[1])
            x, _ = self.lstm(x)
        else:
            packed = pack_padded_sequence(x, widths.cpu(), batch_first=True, enforce_sorted=False)
            x, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.head(self.drop(x).transpose(1, 2)).transpose(1, 2), widths


def build(parent: Path | None, texts: Iterable[str], hyper: Hyper | None = None) -> CRNN:
    """A new reader of `texts`, or that of a crnn bundle with its alphabet grown by them."""
    if parent is None:
        return CRNN(vocab.grow((), texts))
    manifest = Manifest.load(parent)
    if manifest.lineage.get("recipe") != RECIPE.name:
        raise BadInput("crnn goes on from bundles of its own kind alone; train without a parent")
    model = CRNN(vocab.grow(manifest.alphabet, texts))
    graph = parent / manifest.graphs[Precision.FP32].file
    load_by_name(model, graph, but="lstm.")
    load_lstm(model.lstm, graph)
    model.head.bias.data[len(manifest.alphabet) + 1 :] = float(model.head.bias.data.min())
    return model


RECIPE = Recipe(
    name="crnn",
    summary="trains a CNN with two BiLSTM layers and CTC from the corrections alone",
    defaults=Hyper(
        lr=2e-3,
        steps=600,
        passes=20,
        report_every=50,
        warmup=0.1,
        clip=5.0,
        weight_decay=1e-4,
        replay=0.0,
        rehearsal=0,
        copies=0,
        augment=1.0,
        patience=0,
    ),
    build=build,
    starts_from="scratch",
)
