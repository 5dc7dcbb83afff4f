"""How large INT8 may make weights so that every CPU multiplies them exactly.

Without VNNI instructions a CPU adds two neighbouring products of uint8 and int8 in 16 bits, and cuts the sum
off at 32,767. Two weights of a sign that together stay below 128 cannot exceed it, whatever they are
multiplied with, so an INT8 graph reads the same wherever it is served.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Values = NDArray[Any]
TOP = 127  # 255 * (127 + 1 of rounding) is below 2**15


def largest(rows: Values) -> Values:
    """Per row of weights [N,K] what INT8 must be able to say: the largest weight, or neighbours together."""
    paired = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)
    together = [np.clip(sign * paired, 0, None).sum(-1).max(-1, initial=0) for sign in (1, -1)]
    found: Values = np.max([*together, np.abs(rows).max(-1, initial=0)], 0)
    return found


def overrides(graph: onnx.GraphProto, layers: set[str]) -> dict[str, list[dict[str, Any]]]:
    """What ONNX Runtime's quantisation wants to be told of the weights of these layers, by their names."""
    stored = {t.name: t for t in graph.initializer}
    told = {}
    for node in (n for n in graph.node if n.name in layers and n.input[1] in stored):
        weights, axis = numpy_helper.to_array(stored[node.input[1]]), _axis(node)
        limits = _of_channels(weights, axis)
        told[node.input[1]] = [{"axis": axis, "rmin": -limit, "rmax": limit} for limit in limits]
    return told


def _axis(node: onnx.NodeProto) -> int:
    """Where the output channels are, as ONNX Runtime takes them."""
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or turned else 1


def _of_channels(weights: Values, axis: int) -> Values:
    """A convolution may be worked out channel by channel of its image, or place by place."""
    rows = np.moveaxis(weights, axis, 0)
    orders = rows, np.moveaxis(rows, 1, -1)
    most: Values = np.max([largest(order.reshape(len(rows), -1)) for order in orders], 0)
    return most


def shrunk(whole: Values, scale: Values) -> tuple[Values, Values]:
    """INT8 weights [...,K,N] with a scale [...,N] as others that leave the room, and theirs."""
    rows = whole.swapaxes(-1, -2).astype(np.float32)
    limits = np.maximum(largest(rows.reshape(-1, rows.shape[-1])), TOP).reshape(rows.shape[:-1])
    made = np.rint(rows * (TOP / limits)[..., None]).astype(np.int8)
    return made.swapaxes(-1, -2), (scale * limits / TOP).astype(scale.dtype)
