"""Blocks of encoder-decoder transformers whose decoder steps with kept keys and values.

Attention Is All You Need (Vaswani et al. 2017), with the layer norm before or behind each part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.image_to_text import Named, attend, merge_heads, split_heads


class Attention(nn.Module):
    """Multi-head attention whose keys and values can be had on their own, to be kept."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.drop = nn.Dropout(dropout)

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B,T,width] -> keys and values, each [B,h,T,d]."""
        return split_heads(self.key(x), self.heads), split_heads(self.value(x), self.heads)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
        """[B,S,width] looks at keys and values [B,h,T,d], where `seen` says."""
        found = attend(split_heads(self.query(x), self.heads), key, value, seen)
        answer: Tensor = self.drop(self.out(merge_heads(found)))
        return answer


class FeedForward(nn.Sequential):
    """Two linear layers with ReLU or GELU between."""

    def __init__(self, width: int, inner: int, dropout: float, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__(
            nn.Linear(width, inner),
            activation(),
            nn.Dropout(dropout),
            nn.Linear(inner, width),
            nn.Dropout(dropout),
        )


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, the norm behind each; `place` is added to what is compared."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.feed = FeedForward(width, inner, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        at = self.attention
        located = x + place
        key, value = split_heads(at.key(located), at.heads), split_heads(at.value(x), at.heads)
        x = self.norms[0](x + at(located, key, value))
        answer: Tensor = self.norms[1](x + self.feed(x))
        return answer


class DecoderLayer(nn.Module):
    """Self-attention, attention to an image, feed-forward; the norm behind each."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.cross = Attention(width, heads, dropout)
        self.feed = FeedForward(width, inner, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(
        self, x: Tensor, seen: Tensor, past: tuple[Tensor, Tensor], memory: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """[B,S,width], and the keys and values of its S positions."""
        new = self.attention.keys(x)
        x = self.norms[0](x + self.attention(x, *joined(past, new), seen))
        x = self.norms[1](x + self.cross(x, *memory))
        return self.norms[2](x + self.feed(x)), new


def joined(past: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Keys and values of all positions: those kept, then the new ones."""
    (old_key, old_value), (key, value) = past, new
    return torch.cat([old_key.to(key), key], 2), torch.cat([old_value.to(value), value], 2)


def pair(named: Named, name: str) -> tuple[Tensor, Tensor]:
    """The keys and values that are kept under a name."""
    return named[f"{name}.key"], named[f"{name}.value"]


def shapes(layers: int, heads: int, size: int) -> dict[str, tuple[int, int]]:
    """`past_shapes` of a decoder that keeps keys and values of so many layers."""
    return {f"{i}.{kind}": (heads, size) for i in range(layers) for kind in ("key", "value")}


def embedded(embedding: nn.Embedding, tokens: Tensor, length: Tensor, positions: nn.Embedding) -> Tensor:
    """Tokens [B,S] behind `length` [B] earlier ones -> vectors [B,S,width] that know their place."""
    at = length[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
    return F.embedding(tokens, embedding.weight) + F.embedding(at, positions.weight)
