"""Low-rank adapters: linear layers stay as they are, and thin matrices beside them learn what to add.

LoRA (Hu et al. 2021). In a graph the layer and its adapter are one matrix, which ONNX Runtime
multiplies out when it loads the graph; the file holds both apart, so a version can go on learning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from redpencil.errors import Damaged


class Lora(nn.Linear):
    """Takes the place of a linear layer, whose weights it keeps under their names and freezes."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float, dropout: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight.requires_grad_(False), layer.bias
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.down = nn.Parameter(layer.weight.new_empty(rank, layer.in_features))
        self.up = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=sqrt(5))
        self.scale, self.drop = alpha / rank, nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return F.linear(x, self.merged(), self.bias)
        return super().forward(x) + self.scale * F.linear(F.linear(self.drop(x), self.down), self.up)

    def merged(self) -> Tensor:
        """The weights of the one layer that does the same."""
        return self.weight + self.scale * self.up @ self.down


def adapt(model: nn.Module, names: Sequence[str], rank: int, alpha: float, dropout: float) -> None:
    """Freeze a model but for adapters, which all its linear layers of these names get."""
    model.requires_grad_(False)
    for name, layer in list(model.named_modules()):
        if name.rpartition(".")[2] in names and isinstance(layer, nn.Linear):
            model.set_submodule(name, Lora(layer, rank, alpha, dropout))


def adapters(model: nn.Module) -> Iterator[tuple[str, Lora]]:
    """The adapted layers of a model, by name."""
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, Lora))


def to_peft(layers: dict[str, Lora], base: str, folder: Path) -> tuple[Path, Path]:
    """Write adapters as the peft package does: their weights, and where in `base` they belong.

    The names are those of the layers there.
    """
    from peft import LoraConfig

    first = next(iter(layers.values()))
    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        r=first.down.shape[0],
        lora_alpha=round(first.scale * first.down.shape[0]),
        lora_dropout=first.drop.p,
        target_modules=sorted({name.rpartition(".")[2] for name in layers}),
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    stored: dict[str, Tensor] = {}
    for name, layer in layers.items():
        stored |= {
            f"base_model.model.{name}.lora_A.weight": layer.down.detach().cpu().contiguous(),
            f"base_model.model.{name}.lora_B.weight": layer.up.detach().cpu().contiguous(),
        }
    weights = folder / "adapter_model.safetensors"
    save_file(stored, weights)
    return weights, folder / "adapter_config.json"


def from_peft(layers: dict[str, Lora], weights: Path) -> None:
    """Fill adapters from what `to_peft` wrote of their like; Damaged where one is missing or misshapen."""
    stored = load_file(weights)
    for name, layer in layers.items():
        for part, own in (("lora_A", layer.down), ("lora_B", layer.up)):
            found = stored.get(f"base_model.model.{name}.{part}.weight")
            if found is None or found.shape != own.shape:
                raise Damaged(f"{weights.name} holds no {part} of shape {tuple(own.shape)} for {name}")
            own.data.copy_(found)
