"""Channels of a value made more alike, so that one step of rounding fits them all.

A value has one step for all of its channels, as wide as the widest one needs. Where that drowns the
others, each channel is divided by its share before it is rounded, and the weights that take it are
multiplied by it: in FP32 the graph answers as before (Xiao et al. 2022, SmoothQuant, arXiv 2211.10438;
here between an activation and its convolution, where no layer in front could take the share in).
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from training.probe import Met

NOISY = 0.002  # of a value's variance: rounding that adds more is too much (docs/log.md, 2026-11-29)
LEAST = 1 / 8  # a channel is divided by; one that hardly spoke may speak up on other lines


def evened(
    model: onnx.ModelProto, layers: Set[str], met: Mapping[str, Met]
) -> tuple[onnx.ModelProto, dict[str, Met]]:
    """The graph with even channels in front of those of its convolutions that need it, and what it met.

    `met` says what each value held; in the answer the new values are among them.
    """
    made, seen, nodes = onnx.ModelProto.FromString(model.SerializeToString()), dict(met), []
    stored = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    for node in made.graph.node:
        if node.name in layers and node.op_type == "Conv" and noisy(met[node.input[0]]):
            value, share = met[node.input[0]], shares(met[node.input[0]])
            if stored[node.input[1]].shape[1] == len(share):  # else it takes them in groups
                nodes.append(_divided(made.graph, node, stored[node.input[1]], share))
                seen[node.input[0]] = value.divided(share)
        nodes.append(node)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    taken = {name for node in nodes for name in node.input}
    for tensor in [t for t in made.graph.initializer if t.name not in taken]:
        made.graph.initializer.remove(tensor)
    return made, seen


def _divided(
    graph: onnx.GraphProto, node: onnx.NodeProto, weights: NDArray[np.float32], share: NDArray[np.float32]
) -> onnx.NodeProto:
    """The node that divides what comes into a convolution, whose weights make up for it."""
    by_channel = share.reshape(1, -1, *[1] * (weights.ndim - 2))
    value, even = node.input[0], f"{node.name}_even"
    node.input[0], node.input[1] = even, f"{even}_weights"
    constants = {f"{even}_by": 1 / by_channel, node.input[1]: weights * by_channel}
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    return helper.make_node("Mul", [value, f"{even}_by"], [even], even)


def shares(met: Met) -> NDArray[np.float32]:
    """By what each channel is divided: the square root of its width beside the widest, so that what other
    lines bring still has room."""
    widths = met.widths / met.widths.max()
    roots: NDArray[np.float32] = np.sqrt(np.maximum(widths, LEAST**2)).astype(np.float32)
    return roots


def noisy(met: Met) -> bool:
    """Whether rounding adds much to the value, as noise evenly spread within a step."""
    return met.step**2 / 12 > NOISY * met.variance
