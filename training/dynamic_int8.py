"""A graph's matrices in INT8: weights once and for all, what is multiplied with them as it comes.

For graphs that write token after token, whose time goes into reading weights. Every row of a matrix
has a scale of its own, which leaves room for sums (`training/headroom.py`). A table that is both looked
up and multiplied with, as a language model's words are, is stored once, which ONNX Runtime's own tool
does not do (docs/log.md, 2026-11-29).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from training.headroom import TOP, largest

Floats = NDArray[np.float32]

CUSTOM = "com.microsoft"
FEWEST = 1024  # values; smaller matrices gain nothing


def write(source: Path, target: Path) -> None:
    """Write the graph with all products by a constant matrix, and all tables, in INT8."""
    model = onnx.load(source)
    quantizer = Quantizer(model.graph)
    nodes = [made for node in model.graph.node for made in quantizer.replaced(node)]
    _put(model.graph, nodes, quantizer.made)
    if all(o.domain != CUSTOM for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CUSTOM, 1))
    onnx.save(model, target)


class Quantizer:
    """Knows what in a graph is constant, and keeps the matrices that were made INT8."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.stored = {t.name: t for t in graph.initializer}
        self.by_output = {name: node for node in graph.node for name in node.output}
        self.constant = set(self.stored)
        for node in graph.node:
            if all(name in self.constant for name in node.input if name):
                self.constant.update(node.output)
        self.made: dict[str, TensorProto] = {}
        self.given: set[str] = set()  # what is multiplied, and INT8 by now

    def replaced(self, node: NodeProto) -> Iterator[NodeProto]:
        """The nodes that do the same with an INT8 matrix, or the node itself."""
        rows = self._rows(node)
        if rows is None:
            yield node
        elif node.op_type == "Gather":
            yield from self._looked_up(node, rows)
        else:
            yield from self._multiplied(node, rows)

    def _rows(self, node: NodeProto) -> str | None:
        """The name of the INT8 matrix that a node looks up or multiplies with; it has an output per row."""
        if node.op_type == "Gather":
            table, given, turned = node.input[0], node.input[1], False
            wanted = _attribute(node, "axis", 0) == 0
        elif node.op_type in ("MatMul", "Gemm"):
            given, table = node.input[:2]
            turned, wanted = not _attribute(node, "transB", 0), _plain(node)
        else:
            return None
        if not wanted or table not in self.constant or given in self.constant:
            return None
        return self._quantised(table, turned)

    def _quantised(self, name: str, turned: bool) -> str | None:
        """Make NAME.int8 [N,K] and NAME.scale [N] of a constant matrix, [K,N] where it is `turned`."""
        node = self.by_output.get(name)
        while node is not None and node.op_type in ("Cast", "Transpose") and len(node.input) == 1:
            turned ^= node.op_type == "Transpose"
            name, node = node.input[0], self.by_output.get(node.input[0])
        key = f"{name}.turned" if turned else name
        if f"{key}.int8" not in self.made:
            values = self._value(name)
            if values.ndim != 2 or values.size < FEWEST or not np.issubdtype(values.dtype, np.floating):
                return None
            rows = values.astype(np.float32)
            self._keep(key, rows.T if turned else rows)
        return key

    def _keep(self, name: str, rows: Floats) -> None:
        scale = largest(rows) / TOP
        scale[scale == 0] = 1
        whole = np.rint(rows / scale[:, None]).astype(np.int8)
        self.made[f"{name}.int8"] = numpy_helper.from_array(whole, f"{name}.int8")
        self.made[f"{name}.scale"] = numpy_helper.from_array(scale, f"{name}.scale")

    def _value(self, name: str) -> NDArray[Any]:
        """What a constant is, worked out from the constants that it is made of."""
        if name in self.stored:
            return numpy_helper.to_array(self.stored[name])
        node = self.by_output[name]
        given = {n: self._value(n) for n in node.input if n}
        answers = ReferenceEvaluator(node).run([name], given)
        assert isinstance(answers, list)  # intermediate results, which would be named, are not asked for
        found: NDArray[Any] = answers[0]
        return found

    def _looked_up(self, node: NodeProto, rows: str) -> Iterator[NodeProto]:
        (out,), ids = node.output, node.input[1]
        row, scale, each, wide = (f"{out}.row_{part}" for part in ("int8", "scale", "each", "wide"))
        self.made["minus_one"] = numpy_helper.from_array(np.array([-1]), "minus_one")
        yield helper.make_node("Gather", [f"{rows}.int8", ids], [row], axis=0)
        yield helper.make_node("Gather", [f"{rows}.scale", ids], [scale], axis=0)
        yield helper.make_node("Unsqueeze", [scale, "minus_one"], [each])
        yield helper.make_node("Cast", [row], [wide], to=TensorProto.FLOAT)
        yield helper.make_node("Mul", [wide, each], [out])

    def _multiplied(self, node: NodeProto, rows: str) -> Iterator[NodeProto]:
        given, out = node.input[0], node.output[0]
        whole, scale, zero = (f"{given}.given_{part}" for part in ("int8", "scale", "zero"))
        if given not in self.given:
            self.given.add(given)
            yield helper.make_node("DynamicQuantizeLinear", [given], [whole, scale, zero])
        turned = f"{out}.columns"
        yield helper.make_node("Transpose", [f"{rows}.int8"], [turned], perm=[1, 0])
        wanted = [whole, turned, scale, f"{rows}.scale", zero, "", *node.input[2:]]
        kind = "MatMulIntegerToFloat"
        yield helper.make_node(kind, wanted, [out], name=node.name, domain=CUSTOM)


def _plain(node: NodeProto) -> bool:
    """Whether a product is just that: nothing turned or scaled on the left or behind it."""
    scaled = _attribute(node, "alpha", 1.0), _attribute(node, "beta", 1.0)
    return not _attribute(node, "transA", 0) and scaled == (1.0, 1.0)


def _attribute(node: NodeProto, name: str, usual: Any) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), usual)


def _put(graph: onnx.GraphProto, nodes: list[NodeProto], made: dict[str, TensorProto]) -> None:
    """Give a graph these nodes and tensors, without what no answer needs any more."""
    needed, kept = {o.name for o in graph.output}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    tensors = [t for t in (*graph.initializer, *made.values()) if t.name in needed]
    for field, content in (("node", kept[::-1]), ("initializer", tensors)):
        graph.ClearField(field)
        getattr(graph, field).extend(content)
    graph.ClearField("value_info")
