"""The vision tower of Qwen2.5-VL on a canvas of one size, so that all that depends on the size is constant.

The layers and their weights are those of transformers; they are walked here because its own forward
takes images of any size in one long row and cannot become a graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from redpencil.errors import BadInput
from training.image_to_text import attend


class Vision(nn.Module):
    """Images [B,3,H,W] of one height and width -> vectors of their merged patches [B,P,D], row by row."""

    sin: Tensor
    cos: Tensor
    order: Tensor
    back: Tensor

    def __init__(self, tower: Any, height: int, width: int) -> None:
        super().__init__()
        config: Qwen2_5_VLVisionConfig = tower.config
        self.patch, self.merge = int(config.patch_size), int(config.spatial_merge_size)
        self.repeat = int(config.temporal_patch_size)
        self.grid = grid(config, height, width)
        self.tower = tower
        self._place(config)

    @property
    def count(self) -> int:
        """How many vectors an image becomes."""
        return self.grid[0] * self.grid[1] // self.merge**2

    def forward(self, images: Tensor) -> Tensor:
        tower = self.tower
        x = F.linear(self.patches(images), tower.patch_embed.proj.weight.flatten(1))[:, self.order]
        for number, block in enumerate(tower.blocks):
            runs = self.runs if number not in tower.fullatt_block_indexes else [(1, len(self.order))]
            x = x + self._attention(block.attn, block.norm1(x), runs)
            x = x + block.mlp(block.norm2(x))
        merged = tower.merger(x).unflatten(0, (-1, self.count))
        answer: Tensor = merged[:, self.back]
        return answer

    def patches(self, images: Tensor) -> Tensor:
        """[B,3,H,W] -> [B,N,values]: patches that are to be merged stand together, frames repeated."""
        (rows, columns), m, p = self.grid, self.merge, self.patch
        cut = images.reshape(-1, 3, rows // m, m, p, columns // m, m, p).permute(0, 2, 5, 3, 6, 1, 4, 7)
        values = cut.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, self.repeat, -1, -1)
        return values.reshape(-1, rows * columns, 3 * self.repeat * p * p)

    def _attention(self, layer: Any, x: Tensor, runs: list[tuple[int, int]]) -> Tensor:
        """Self-attention within windows; `runs` says how many follow each other of how many patches."""
        q, k, v = layer.qkv(x).unflatten(-1, (3, layer.num_heads, -1)).unbind(2)
        q, k = apply_rotary_pos_emb_vision(q, k, self.cos, self.sin)
        answers = []
        for span, windows, size in spans(runs):
            parts = (t[:, span].unflatten(1, (windows, size)).transpose(2, 3) for t in (q, k, v))
            answers.append(attend(*parts).transpose(2, 3).flatten(1, 2))
        answer: Tensor = layer.proj(torch.cat(answers, 1).flatten(2))
        return answer

    def _place(self, config: Qwen2_5_VLVisionConfig) -> None:
        """Work out in which order patches stand and where each lies.

        Windows of equal size stand together; among themselves their order changes nothing.
        """
        whole = torch.tensor([[1, *self.grid]])
        index, ends = get_vision_window_index(whole, self.merge, config.window_size, self.patch)
        sizes = ends.diff().tolist()
        windows = sorted(index.split([size // self.merge**2 for size in sizes]), key=len)
        cells = torch.cat(windows)
        unit = torch.arange(self.merge**2)
        lengths = sorted(sizes)
        self.runs = [(lengths.count(size), size) for size in dict.fromkeys(lengths)]
        order = (cells[:, None] * self.merge**2 + unit).flatten()
        turn = self.tower.rotary_pos_emb(torch.zeros(1), get_vision_position_ids(whole, self.merge))
        cos, sin = (table[order] for table in turn)
        for name, table in (("order", order), ("back", cells.argsort()), ("cos", cos), ("sin", sin)):
            self.register_buffer(name, table, persistent=False)


def spans(runs: list[tuple[int, int]]) -> Iterator[tuple[slice, int, int]]:
    """Where each run of windows lies, how many they are, and of what size."""
    start = 0
    for windows, size in runs:
        yield slice(start, start + windows * size), windows, size
        start += windows * size


def grid(config: Qwen2_5_VLVisionConfig, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of patches on a canvas; BadInput where they do not fit it."""
    side = int(config.patch_size) * config.spatial_merge_size
    if height < side or width < side or height % side or width % side:
        raise BadInput(
            f"height and width must be multiples of {side} px for this model, not {height} x {width}"
        )
    return height // int(config.patch_size), width // int(config.patch_size)
