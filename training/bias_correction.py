"""Biases of an INT8 graph that make up for what rounding adds to an output channel on average.

Rounding its weights and what goes into it moves the mean of a layer's answers, and the layers behind it
hear that as if the image were another. What each convolution adds is known from the means of its input,
exact and rounded, and its bias takes it back (Nagel et al. 2019, arXiv 1906.04721, section 4.2, with
means that are measured). It costs nothing where the graph runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Values = NDArray[Any]


@dataclass(frozen=True)
class Convolution:
    """A convolution of a graph in INT8: the value that goes into it, and the names of its constants."""

    comes_in: str
    scale: str
    zero: str
    exact: str
    weights: str
    steps: str
    bias: str
    bias_steps: str


def correct(
    twin: onnx.ModelProto, exact: onnx.ModelProto, lines: Iterable[Mapping[str, Values]]
) -> onnx.ModelProto:
    """The INT8 graph with the biases of its convolutions corrected.

    `exact` is the same graph in FP32; `lines` say what goes into its layers, by name.
    """
    layers = convolutions(twin.graph, exact.graph)
    if not layers:
        return twin  # and no line is looked at
    made: onnx.ModelProto = onnx.ModelProto.FromString(twin.SerializeToString())
    tensors = {t.name: t for t in made.graph.initializer}
    stored = {t.name: numpy_helper.to_array(t) for t in (*exact.graph.initializer, *made.graph.initializer)}
    means = means_of(layers, stored, lines)
    for layer in layers:
        plain, left = means[layer.comes_in]
        weights = _flat(stored[layer.weights]) * stored[layer.steps][:, None]
        added = weights @ left - _flat(stored[layer.exact]) @ plain
        bias = np.rint(stored[layer.bias] - added / stored[layer.bias_steps]).astype(np.int32)
        tensors[layer.bias].CopyFrom(numpy_helper.from_array(bias, layer.bias))
    return made


def convolutions(twin: onnx.GraphProto, exact: onnx.GraphProto) -> list[Convolution]:
    """Those in INT8 that have a bias and mix all channels."""
    back = {n.output[0]: n.input for n in twin.node if n.op_type == "DequantizeLinear"}
    source = {n.output[0]: n.input[0] for n in twin.node if n.op_type == "QuantizeLinear"}
    plain = {n.name: n.input for n in exact.node}
    found = []
    for node in (n for n in twin.node if n.op_type == "Conv" and len(n.input) == 3):
        if all(name in back for name in node.input) and not _grouped(node):
            image, weights, bias = (back[name] for name in node.input)
            constants = (plain[node.name][1], weights[0], weights[1], bias[0], bias[1])
            found.append(Convolution(source[image[0]], image[1], image[2], *constants))
    return found


def _grouped(node: onnx.NodeProto) -> bool:
    return any(a.name == "group" and a.i > 1 for a in node.attribute)


def _flat(weights: Values) -> Values:
    """[out, in]: the kernel of each pair of channels, summed."""
    flat: Values = weights.sum(tuple(range(2, weights.ndim)), dtype=np.float64)
    return flat


def means_of(
    layers: Sequence[Convolution], stored: Mapping[str, Values], lines: Iterable[Mapping[str, Values]]
) -> dict[str, Values]:
    """For each value that goes into a layer the mean of every channel, exact and rounded: [2, C]."""
    rules = {layer.comes_in: (stored[layer.scale], stored[layer.zero]) for layer in layers}
    sums: dict[str, Any] = dict.fromkeys(rules, 0.0)
    counts = dict.fromkeys(rules, 0)
    for line in lines:
        for name, rule in rules.items():
            both = np.stack([line[name], rounded(line[name], *rule)])
            sums[name] = sums[name] + both.sum((1, *range(3, both.ndim)), dtype=np.float64)
            counts[name] += both[0, :, 0].size
    return {name: both / counts[name] for name, both in sums.items()}


def rounded(values: Values, scale: Values, zero: Values) -> Values:
    """What is left of the values after QuantizeLinear and DequantizeLinear."""
    limits = np.iinfo(zero.dtype)
    low, high = (limits.min - float(zero)) * scale, (limits.max - float(zero)) * scale
    left: Values = np.rint(np.clip(values, low, high) / scale) * scale
    return left
