"""Weights out of ONNX files: the bundle is the border, so a model goes on from its graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from redpencil.errors import Damaged

Floats = NDArray[np.float32]
Layer = tuple[Floats, Floats]  # weight, bias


def load_by_name(model: nn.Module, path: Path, but: str | None = None) -> None:
    """Fill a model from the graph that was exported from its like, by parameter name.

    Names that start with `but` are left alone.
    """
    fill(model, constants(path), path.name, but)


def fill(model: nn.Module, stored: Mapping[str, Floats], source: str, but: str | None = None) -> None:
    """Fill a model by parameter name; a missing name or another shape is Damaged.

    Classes that the model has beyond the stored ones keep their initial values.
    """
    for name, own in model.state_dict().items():
        if (but and name.startswith(but)) or name.endswith("num_batches_tracked"):
            continue
        if name not in stored or not _fits(stored[name].shape, tuple(own.shape)):
            raise Damaged(f"{source} holds no weights for {name} of shape {tuple(own.shape)}")
        own[tuple(slice(n) for n in stored[name].shape)] = torch.from_numpy(stored[name].copy())


def constants(path: Path) -> dict[str, Floats]:
    """Everything that a graph holds, by the names that it has in the exported model."""
    return {name.removeprefix("model."): array for name, array in _constants(onnx.load(path).graph).items()}


def load_parts(model: nn.Module, *paths: Path) -> None:
    """Fill a model from several graphs that were exported of its parts; every weight must be in one."""
    stored: dict[str, Floats] = {}
    for path in paths:
        held = _constants(onnx.load(path).graph)
        stored |= {n.removeprefix("model."): a for n, a in held.items() if n.startswith("model.")}
    fill(model, stored, str(paths[0].parent))


def load_lstm(lstm: nn.LSTM, path: Path) -> None:
    """Fill a bidirectional LSTM from a graph, whose exporter reorders and renames its weights."""
    graph = onnx.load(path).graph
    stored = _constants(graph)
    nodes = [node for node in graph.node if node.op_type == "LSTM"]
    if len(nodes) != lstm.num_layers:
        raise Damaged(f"{path.name} holds {len(nodes)} LSTM layers, not {lstm.num_layers}")
    for layer, node in enumerate(nodes):
        weights, recurrent, biases = (stored[name] for name in node.input[1:4])
        for direction, end in enumerate(("", "_reverse")):
            ours, theirs = np.split(biases[direction], 2)
            for name, array in (
                ("weight_ih", weights[direction]),
                ("weight_hh", recurrent[direction]),
                ("bias_ih", ours),
                ("bias_hh", theirs),
            ):
                _fill(getattr(lstm, f"{name}_l{layer}{end}"), array)


def _fill(parameter: Tensor, array: Floats) -> None:
    # ONNX has the gates in the order input, output, forget, cell; torch output last.
    i, o, f, c = np.split(array, 4)
    parameter.data.copy_(torch.from_numpy(np.concatenate([i, f, c, o])))


def _constants(graph: onnx.GraphProto) -> dict[str, Floats]:
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            stored[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return stored


def _fits(stored: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Equal, or with fewer classes, which are the first or the last axis."""
    if len(stored) != len(wanted):
        return False
    less = [i for i, (a, b) in enumerate(zip(stored, wanted, strict=True)) if a != b]
    return not less or (
        less[0] in (0, len(wanted) - 1) and len(less) == 1 and stored[less[0]] < wanted[less[0]]
    )


def layers_in_order(graph: onnx.GraphProto) -> list[Layer]:
    """Every weighted layer with its bias, in topological order; batch norms are folded in.

    Understands what Paddle's exporter writes: Conv, MatMul or a scale, then Add or batch norm.
    """
    stored = _constants(graph)
    layers: list[Layer] = []
    for node in graph.node:
        constants = [stored[i] for i in node.input if i in stored]
        vector = next((c for c in constants if c.size > 1), None)
        if node.op_type in ("Conv", "MatMul", "Mul") and vector is not None:
            layers.append((vector, np.zeros(0, np.float32)))
        elif node.op_type == "Add" and vector is not None:
            layers[-1] = (layers[-1][0], vector.reshape(-1))
        elif node.op_type == "BatchNormalization":
            epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
            layers[-1] = _folded(layers[-1][0], constants, epsilon)
    return layers


def _folded(weight: Floats, norm: list[Floats], epsilon: float) -> Layer:
    gain, shift, mean, variance = norm
    scale = gain / np.sqrt(variance + epsilon)
    return weight * scale[:, None, None, None], shift - mean * scale
