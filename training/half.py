"""Weights in half precision, for graphs of models that no ONNX file could hold otherwise.

What is computed stays in single precision: ONNX Runtime widens the weights when it loads a graph.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from redpencil.errors import BadInput

LARGEST = 2**31 - 2**26  # bytes of weights: protobuf, and so ONNX, knows no message of 2 GiB or more


class Half(nn.Linear):
    """Keeps its weights in half precision, and multiplies in that of what comes."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = nn.Parameter(layer.weight.detach().half(), requires_grad=False), layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias)


def check(model: nn.Module, what: str) -> None:
    """BadInput where no file could hold a model, not even in half precision."""
    least = sum(p.numel() * (2 if p.ndim == 2 else p.element_size()) for p in model.parameters())
    if least > LARGEST:
        raise BadInput(
            f"the {what} takes {least / 1e9:.1f} GB in half precision, and an ONNX file holds "
            f"{LARGEST / 1e9:.1f} at most; take a smaller one (Qwen3-0.6B fits, Qwen3-1.7B does not)"
        )


def fit(model: nn.Module) -> None:
    """Halve the matrices of a model that one file could not hold."""
    if size(model) <= LARGEST:
        return
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear):
            model.set_submodule(name, Half(layer))
        elif isinstance(layer, nn.Embedding):
            layer.requires_grad_(False).half()


def size(model: nn.Module) -> int:
    """Bytes of a model's weights; what is shared counts once."""
    return sum(p.numel() * p.element_size() for p in model.parameters())
