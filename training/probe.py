"""What goes into and comes out of the layers of a graph on images of its kind, and what each layer costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

Image = NDArray[np.float32]  # [1, C, H, W], as the graph takes it

OPS = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True)
class Layer:
    """A layer with constant weights, and the multiplications it does on one line."""

    name: str
    work: int
    pointwise: bool


@dataclass(frozen=True)
class Met:
    """What a tensor held on some images: for each of its C channels, over `count` places."""

    count: int
    low: NDArray[Any]
    high: NDArray[Any]
    total: NDArray[Any]
    squares: NDArray[Any]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Self:
        """Of values [1, C, ...]."""
        flat = values.reshape(values.shape[1], -1)
        sums = (np.asarray(part.sum(1, dtype=np.float64)) for part in (flat, np.square(flat)))
        return cls(flat.shape[1], flat.min(1), flat.max(1), *sums)

    def beside(self, other: Met) -> Met:
        """What both held."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        sums = self.total + other.total, self.squares + other.squares
        return Met(self.count + other.count, low, high, *sums)

    @property
    def variance(self) -> float:
        """Of the values about the mean of their channel."""
        return float((self.squares / self.count - np.square(self.total / self.count)).mean())

    @property
    def widths(self) -> NDArray[Any]:
        """From the least to the greatest value of each channel, 0 among them."""
        widths: NDArray[Any] = np.maximum(self.high, 0) - np.minimum(self.low, 0)
        return widths

    @property
    def step(self) -> float:
        """Between two values that 8 bits can tell apart."""
        return (max(float(self.high.max()), 0) - min(float(self.low.min()), 0)) / 255

    def divided(self, by: NDArray[Any]) -> Met:
        """Each channel divided by its number."""
        return Met(self.count, self.low / by, self.high / by, self.total / by, self.squares / np.square(by))


class Probe:
    """Runs a graph and shows what goes into and comes out of each layer with constant weights.

    ONNX Runtime's own calibration would do, but its threads spin beside those that serve.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._weights = {t.name: tuple(t.dims) for t in model.graph.initializer}
        self._nodes = [n for n in model.graph.node if n.op_type in OPS and n.input[1] in self._weights]
        self._seen = sorted({name for n in self._nodes for name in (n.input[0], n.output[0])} - {"image"})
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._seen)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, image: Image) -> dict[str, NDArray[np.float32]]:
        # Asked for nothing, ONNX Runtime would answer everything.
        answers = self._session.run(self._seen, {"image": image}) if self._seen else []
        return {"image": image} | dict(zip(self._seen, answers, strict=True))

    def layers(self, image: Image) -> list[Layer]:
        """Every such layer with its work on this line; depthwise ones left out."""
        answers = self.run(image)
        weighed = ((n, self._weights[n.input[1]]) for n in self._nodes)
        return [
            _layer(n, weight, answers[n.output[0]].size) for n, weight in weighed if not _depthwise(n, weight)
        ]

    def met(self, images: Sequence[Image]) -> dict[str, Met]:
        """What each tensor held on these images: by channel where a convolution takes it, else as a whole."""
        channelled = {n.input[0] for n in self._nodes if n.op_type == "Conv"}
        found: dict[str, Met] = {}
        for image in images:
            for name, value in self.run(image).items():
                seen = Met.of(value if name in channelled else value.reshape(1, 1, -1))
                found[name] = found[name].beside(seen) if name in found else seen
        return found


def _depthwise(node: onnx.NodeProto, weight: tuple[int, ...]) -> bool:
    return node.op_type == "Conv" and weight[1] == 1 and weight[0] > 1


def _layer(node: onnx.NodeProto, weight: tuple[int, ...], answers: int) -> Layer:
    if node.op_type == "Conv":
        return Layer(node.name, answers * math.prod(weight[1:]), math.prod(weight[2:]) == 1)
    return Layer(node.name, answers * math.prod(weight) // weight[-1], True)
