"""The INT8 twin of a graph: static QDQ, uint8 activations, int8 weights per output channel.

Only layers that do much of the work become INT8: the light ones would gain nothing, and some of
them (the neck's first layer in ppocr) cost most of the accuracy. LSTM layers have INT8 weights and
take the range of what goes into them as it comes. Weights leave room, so that no sum overflows on any
CPU; channels that rounding would drown are evened, and biases take back what it adds on average. What is
still lost is measured on lines that took no part in calibration, and groups of layers go back to FP32
until it is little.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data
from onnxruntime.quantization.quant_utils import DEQUANT_OUTPUT_SUFFIX
from onnxruntime.quantization.shape_inference import quant_pre_process

from training.bias_correction import correct
from training.even_channels import evened
from training.headroom import overrides, shrunk
from training.probe import OPS, Image, Layer, Probe

RECURRENT = "LSTM"
PAIR = ("QuantizeLinear", "DequantizeLinear")
LEAST_SHARE = 0.11  # of what the heaviest layer does; a lighter one stays FP32
NEARLY_ALL = 0.75  # of all work: products that do more become INT8 alone
PARTS = 4


class Twin:
    """Makes INT8 versions of one graph. Ranges are taken once, and each layer is quantised once."""

    def __init__(self, source: Path, calibration: Sequence[Image]) -> None:
        self._calibration = calibration
        self._scratch = tempfile.TemporaryDirectory(prefix="redpencil-int8-")
        self._prepared = Path(self._scratch.name) / "prepared.onnx"
        self._ranges = Path(self._scratch.name) / "ranges.json"
        quant_pre_process(source, self._prepared, skip_symbolic_shape=True)
        probe = Probe(onnx.load(self._prepared))
        found = probe.layers(calibration[0])
        self._work = {layer.name: layer.work for layer in found}
        self._products = worthwhile(found)
        self._exact, met = evened(onnx.load(self._prepared), set(self._products), probe.met(calibration))
        onnx.save(self._exact, self._prepared)
        self._recurrent = [n.name for n in self._exact.graph.node if n.op_type == RECURRENT]
        self.layers = [*self._products, *self._recurrent]
        ranges = {n: (np.float32(m.low.min()), np.float32(m.high.max())) for n, m in met.items()}
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, ranges), self._ranges)

    @property
    def parts(self) -> list[list[str]]:
        """The layers in groups that go back together: quarters of the convolutions, in order, and of the
        others. So a head, a tenth of a line's time, does not go back with what lies before it."""
        kinds = {node.name: node.op_type for node in self._exact.graph.node}
        first = [name for name in self.layers if kinds[name] == "Conv"]
        return [*quarters(first), *quarters([name for name in self.layers if name not in first])]

    def work(self, layers: Sequence[str]) -> int:
        """The multiplications that they do on a line. A recurrent layer, whose steps wait for each other,
        counts as much as all others together (docs/log.md, 2026-11-28)."""
        every = sum(self._work.values())
        return sum(self._work.get(name, every) for name in layers)

    @property
    def last(self) -> str:
        """The layer that is nearest to the answer."""
        return str(last(self._exact.graph).name)

    def model(self, layers: Sequence[str]) -> onnx.ModelProto:
        """The graph with these of its layers in INT8."""
        model = restored(self._all, self._exact, set(layers))
        recurrent = [n for n in model.graph.node if n.name in layers and n.op_type == RECURRENT]
        for node in recurrent:
            comes_in = node.input[0]
            node.CopyFrom(next(n for n in self._dynamic.node if node.output[0] in n.output))
            node.input[0] = comes_in
        if recurrent:
            store(model.graph, [*model.graph.initializer, *self._dynamic.initializer])
            model.opset_import.append(onnx.helper.make_opsetid(recurrent[0].domain, 1))
        return model

    @cached_property
    def _dynamic(self) -> onnx.GraphProto:
        """The graph with its recurrent layers alone in INT8."""
        target = Path(self._scratch.name) / "dynamic.onnx"
        kinds = {"op_types_to_quantize": [RECURRENT], "weight_type": QuantType.QInt8}
        quantize_dynamic(self._prepared, target, per_channel=True, **kinds)
        return with_headroom(onnx.load(target).graph)

    @cached_property
    def _all(self) -> onnx.ModelProto:
        """Every layer in INT8: seconds of work, most of them for the thousands of classes of a head."""
        target = Path(self._scratch.name) / "int8.onnx"
        quantize_static(
            self._prepared,
            target,
            op_types_to_quantize=list(OPS),
            nodes_to_quantize=self._products,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibration_cache_path=self._ranges,
            extra_options={"TensorQuantOverrides": overrides(self._exact.graph, set(self._products))},
        )
        probe = Probe(onnx.load(self._prepared))
        return correct(onnx.load(target), self._exact, map(probe.run, self._calibration))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()


def with_headroom(graph: onnx.GraphProto) -> onnx.GraphProto:
    """The graph with weights of its recurrent layers that no sum overflows."""
    stored = {t.name: t for t in graph.initializer}
    for node in (n for n in graph.node if n.op_type == "DynamicQuantizeLSTM"):
        for whole, scale in ((node.input[1], node.input[8]), (node.input[2], node.input[10])):
            made = shrunk(*(numpy_helper.to_array(stored[name]) for name in (whole, scale)))
            for name, value in zip((whole, scale), made, strict=True):
                stored[name].CopyFrom(numpy_helper.from_array(value, name))
    return graph


def restored(twin: onnx.ModelProto, exact: onnx.ModelProto, layers: Set[str]) -> onnx.ModelProto:
    """The INT8 twin with these layers alone in INT8, as if no other had ever been quantised.

    A value stays rounded where one of them takes or gives it; `exact` is the graph in FP32.
    """
    rounded = {v for node in exact.graph.node if node.name in layers for v in (*node.input, *node.output)}
    names = _taken_back(twin.graph, rounded)
    model: onnx.ModelProto = onnx.ModelProto.FromString(twin.SerializeToString())
    stay = [n for n in model.graph.node if n.op_type not in PAIR or n.input[0] not in names]
    for node in stay:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    del model.graph.node[:]
    model.graph.node.extend(stay)
    store(model.graph, [*exact.graph.initializer, *twin.graph.initializer])
    return model


def last(graph: onnx.GraphProto) -> onnx.NodeProto:
    """The layer that is nearest to the answer: a head."""
    makers: dict[str, onnx.NodeProto] = {name: node for node in graph.node for name in node.output}
    ahead = [end.name for end in graph.output]
    for node in (makers[name] for name in ahead if name in makers):  # it grows: what is nearer comes first
        if node.op_type in OPS:
            return node
        ahead += node.input
    raise ValueError("no layer leads to the answer")


def in_int8(graph: onnx.GraphProto) -> int:
    """How many of its layers multiply weights of 8 bits."""
    weights = {node.output[0] for node in graph.node if node.op_type == PAIR[1]}
    products = [node for node in graph.node if node.op_type in OPS and node.input[1] in weights]
    recurrent = [node for node in graph.node if node.op_type == f"DynamicQuantize{RECURRENT}"]
    return len(products) + len(recurrent)


def store(graph: onnx.GraphProto, tensors: Sequence[onnx.TensorProto]) -> None:
    """Let a graph hold those of the tensors that its nodes take and none of them gives, each name once."""
    given = {name for node in graph.node for name in node.output}
    needed = {name for node in graph.node for name in node.input} - given
    stored = {t.name: t for t in tensors if t.name in needed}
    del graph.initializer[:]
    graph.initializer.extend(stored.values())


def _taken_back(graph: onnx.GraphProto, rounded: Set[str]) -> dict[str, str]:
    """The names around every pair of QuantizeLinear and DequantizeLinear that rounds none of these values.

    Each with the name that the value has in FP32. A weight has the second half of a pair alone.
    """
    quantise = {n.output[0]: n.input[0] for n in graph.node if n.op_type == PAIR[0]}
    names: dict[str, str] = {}
    for node in (n for n in graph.node if n.op_type == PAIR[1]):
        value = node.output[0].removesuffix(DEQUANT_OUTPUT_SUFFIX)
        if value not in rounded:
            names |= dict.fromkeys((quantise.get(node.input[0], value), node.input[0], node.output[0]), value)
    return names


def worthwhile(layers: Sequence[Layer]) -> list[str]:
    """Those that do LEAST_SHARE of the heaviest one's work or more; products alone, if they do nearly all.

    Matrix products (1x1 convolutions among them) gain most in INT8 and lose least.
    """
    least = LEAST_SHARE * max((layer.work for layer in layers), default=0)
    heavy = [layer for layer in layers if layer.work >= least]
    products = [layer for layer in heavy if layer.pointwise]
    if sum(layer.work for layer in products) > NEARLY_ALL * sum(layer.work for layer in layers):
        heavy = products
    return [layer.name for layer in heavy]


def quarters(layers: Sequence[str]) -> list[list[str]]:
    """At most PARTS groups of about as many layers, in their order."""
    groups = np.array_split(np.array(layers), min(PARTS, len(layers))) if layers else []
    return [group.tolist() for group in groups]


def careful(
    parts: Sequence[Sequence[str]],
    loss: Callable[[Sequence[str]], float],
    allowed: float,
    work: Callable[[Sequence[str]], int] = len,
    least: float = 0.0,
) -> tuple[list[str], float]:
    """Layers that lose at most `allowed`, found by leaving out part after part, and what they lose.

    Each time that one without which least is lost; of those that are enough the one that leaves most `work`.
    `loss` measures a choice. Where all that leave `least` of the work lose more it is the last of them.
    """
    kept, lost = [list(part) for part in parts], loss(_joined(parts)) if parts else 0.0
    enough = least * work(_joined(parts))
    while lost > allowed:
        rests = [kept[:i] + kept[i + 1 :] for i in range(len(kept))]
        found = [(loss(_joined(rest)), rest) for rest in rests if work(_joined(rest)) >= enough]
        if not found:
            break
        lost, kept = min(found, key=lambda one: (max(one[0], allowed), -work(_joined(one[1]))))
    return _joined(kept), lost


def _joined(parts: Sequence[Sequence[str]]) -> list[str]:
    return [name for part in parts for name in part]
