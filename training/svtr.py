"""The parts of PP-OCRv6's line recogniser, an SVTR: convolutional backbone, then a small transformer.

Its batch norms are folded into the convolutions, so there is none left to keep in eval mode.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS = 120, 8  # of the neck
BLOCKS = (  # channels in and out, squeeze-excitation; more channels out halves the height
    *((96, 96, True), (96, 96, False), (96, 96, False), (96, 192, False)),
    *((192, 192, True), (192, 192, False), (192, 192, True), (192, 192, False)),
    *((192, 192, True), (192, 192, False), (192, 384, False)),
    *((384, 384, True), (384, 384, False)),
)


class Stem(nn.Module):
    """[B,3,48,W] -> [B,96,12,W/4]; a pair of 2x2 convolutions beside a 2x2 max-pool."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 48, 3, 2, 1)
        self.pair = nn.ModuleList([nn.Conv2d(48, 24, 2), nn.Conv2d(24, 48, 2)])
        self.join = nn.Conv2d(96, 48, 3, 2, 1)
        self.up = nn.Conv2d(48, 96, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.first(image))
        y = x
        for conv in self.pair:
            y = F.relu(conv(F.pad(y, (0, 1, 0, 1))))
        # Padding the pool with zeros is exact behind a ReLU.
        pooled = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)
        return F.relu(self.up(F.relu(self.join(torch.cat([pooled, y], 1)))))


class Block(nn.Module):
    """Depthwise 3x3, squeeze-excitation in some, then 1x1 up, GELU, 1x1 down with a residual."""

    def __init__(self, inner: int, outer: int, squeeze: bool) -> None:
        super().__init__()
        stride = 1 if inner == outer else (2, 1)
        self.depthwise = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner)
        parts = [nn.Conv2d(inner, inner // 4, 1), nn.Conv2d(inner // 4, inner, 1)] if squeeze else []
        self.squeeze = nn.ModuleList(parts)
        self.up = nn.Conv2d(inner, 2 * inner, 1)
        self.down = nn.Conv2d(2 * inner, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(x)
        if len(self.squeeze):
            reduce, expand = self.squeeze
            x = x * F.hardsigmoid(expand(F.relu(reduce(x.mean((2, 3), keepdim=True)))))
        y = self.down(F.gelu(self.up(x)))
        answer: Tensor = x + y if x.shape[1] == y.shape[1] else y
        return answer


class Dense(nn.Module):
    """x @ weight + bias, stored as ONNX stores it, so that export keeps weight and name."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inner, outer) / math.sqrt(inner))
        self.bias = nn.Parameter(torch.zeros(outer))

    def forward(self, x: Tensor, columns: Tensor | None = None) -> Tensor:
        """All outputs, or those of the given columns alone."""
        if columns is None:
            return x @ self.weight + self.bias
        return x @ self.weight[:, columns] + self.bias[columns]


class Mixer(nn.Module):
    """A pre-norm transformer layer over [B,T,WIDTH]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-5)
        self.qkv = Dense(WIDTH, 3 * WIDTH)
        self.out = Dense(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-5)
        self.up = Dense(WIDTH, 2 * WIDTH)
        self.down = Dense(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        mask = None if valid is None else valid[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        answer: Tensor = x + self.down(F.silu(self.up(self.norm2(x))))
        return answer


class Neck(nn.Module):
    """[B,384,1,T] -> [B,T,WIDTH]: a local 1x7 mixer and two attention layers beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(384, WIDTH, 1)
        self.reduce = nn.Conv2d(384, WIDTH, 1)
        self.local = nn.Conv2d(WIDTH, WIDTH, (1, 7), padding=(0, 3), groups=WIDTH)
        self.mixers = nn.ModuleList([Mixer(), Mixer()])
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        y = F.silu(self.reduce(x))
        if valid is not None:
            y = y * valid[:, None, None]  # behind a line's end as if it were read alone
        y = (y + F.silu(self.local(y))).squeeze(2).transpose(1, 2)
        for mixer in self.mixers:
            y = mixer(y, valid)
        answer: Tensor = self.norm(y) + F.silu(self.shortcut(x)).squeeze(2).transpose(1, 2)
        return answer
