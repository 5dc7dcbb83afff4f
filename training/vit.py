"""torchvision's vision transformer for images of any size: its positions are stretched over another grid."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from redpencil.errors import BadInput

POSITIONS = "encoder.pos_embedding"

Grid = tuple[int, int]  # rows and columns of patches


class Sizes(Protocol):
    """What an encoder is made by."""

    @property
    def patch(self) -> int: ...
    @property
    def vision_width(self) -> int: ...
    @property
    def vision_layers(self) -> int: ...
    @property
    def vision_heads(self) -> int: ...
    @property
    def vision_inner(self) -> int: ...
    @property
    def dropout(self) -> float: ...


def vision(hyper: Sizes, grid: Grid) -> VisionTransformer:
    """torchvision's ViT without its classifier, its positions being those of a grid."""
    sizes = (hyper.vision_layers, hyper.vision_heads, hyper.vision_width, hyper.vision_inner)
    net = VisionTransformer(hyper.patch, hyper.patch, *sizes, dropout=hyper.dropout)
    net.heads = nn.Identity()
    places = torch.empty(1, 1 + grid[0] * grid[1], hyper.vision_width).normal_(std=0.02)
    net.encoder.pos_embedding = nn.Parameter(places)
    return net


def regridded(positions: Tensor, old: Grid, new: Grid) -> Tensor:
    """Embeddings [1,1+cells,d] of class token and grid, stretched over another grid."""
    if old == new:
        return positions
    cells = positions[:, 1:].transpose(1, 2).unflatten(2, old)
    cells = F.interpolate(cells, new, mode="bicubic", align_corners=True)
    return torch.cat([positions[:, :1], cells.flatten(2).transpose(1, 2)], 1)


def load_vision(net: VisionTransformer, grid: Grid, weights: str) -> None:
    """Fill the encoder with torchvision's weights, whatever side of image they were made for."""
    state = {k: v for k, v in stored(weights).items() if not k.startswith("heads.")}
    if POSITIONS in state:
        side = math.isqrt(state[POSITIONS].shape[1] - 1)
        state[POSITIONS] = regridded(state[POSITIONS], (side, side), grid)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(f"{weights} does not fit an encoder of these sizes: {error}") from error


def stored(weights: str) -> dict[str, Tensor]:
    """Weights of a file, or those that torchvision knows by a name."""
    path = Path(weights).expanduser()
    if not path.is_file():
        return fetched(weights)
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # what torch raises for files that are none of its own shares no base
        raise BadInput(f"{path} holds no weights of torchvision: {error}") from error


def fetched(name: str) -> dict[str, Tensor]:
    """Weights that torchvision fetches, or has fetched before."""
    try:
        known = torchvision.models.get_weight(name)
    except (ValueError, AttributeError) as error:
        raise BadInput(f"there is no file {name}, and torchvision knows no weights of that name") from error
    try:
        return dict(known.get_state_dict(check_hash=True, weights_only=True))
    except URLError as error:
        raise BadInput(
            f"{name} cannot be fetched here ({error.reason}); fetch it elsewhere and give its file"
        ) from error
