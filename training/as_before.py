"""An INT8 twin that rounds what its parent's graph computes too exactly as the parent's twin does.

A line that nothing was taught about is then read in INT8, bit for bit, as it was before. With ranges taken
anew, on other lines, one line in twenty would be read otherwise, as often better as worse (docs/log.md,
2026-11-30), and people would see lines go wrong that no correction was about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import onnx
from onnx import numpy_helper

from training.quantize import PAIR, Twin, last, store

BESIDE = "_before"  # behind a name of the parent's that means something else here
SAME = {"image", ""}  # what comes in, and what is left out, have one name in every graph


def as_before(
    twin: Twin, exact: onnx.ModelProto, before: onnx.ModelProto, before_exact: onnx.ModelProto
) -> onnx.ModelProto | None:
    """The INT8 graph of `exact`; what it shares with `before_exact` is as in that one's, `before`.

    The last product, which may name more classes than before, rounds what goes in and comes out as before.
    None where `before` rounds nothing that both compute.
    """
    rounded = _rounded(before.graph)
    same = {
        own: rounded[its] for own, its in shared(exact.graph, before_exact.graph).items() if its in rounded
    }
    head = _head(before.graph)
    made = twin.model([name for name in twin.layers if head or name != twin.last])
    own, met = behind(made.graph, [end.name for end in made.graph.output], same)
    kept, _ = behind(before.graph, [same[name] for name in met])
    if not any(node.op_type == PAIR[0] for node in kept):
        return None
    _round_alike(made.graph, before.graph, head)
    return _joined(made, own, before, kept, {name: same[name] for name in met})


def _joined(
    made: onnx.ModelProto,
    own: Sequence[onnx.NodeProto],
    before: onnx.ModelProto,
    kept: Sequence[onnx.NodeProto],
    met: Mapping[str, str],
) -> onnx.ModelProto:
    """The model of its `own` nodes behind those `kept` of the one before; `met` are the values that they take
    from these, with their names there."""
    its, others = _names(kept), _names(own)
    called = {name: _free(name, its | others) for name in (its & others) - SAME}
    called |= {there: name for name, there in met.items()}
    held = [_named(t, called.get(t.name, t.name)) for t in before.graph.initializer if t.name in its]
    nodes = [*_renamed(kept, called), *_renamed(own, {name: called[met[name]] for name in met})]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    store(made.graph, [*made.graph.initializer, *held])
    domains = {opset.domain for opset in made.opset_import}
    made.opset_import.extend(opset for opset in before.opset_import if opset.domain not in domains)
    return made


def shared(graph: onnx.GraphProto, other: onnx.GraphProto) -> dict[str, str]:
    """Values of a graph that another computes too, from an image by the same weights: their names there."""
    known = {how: name for name, how in origins(other).items()}
    return {name: known[how] for name, how in origins(graph).items() if how in known}


def origins(graph: onnx.GraphProto) -> dict[str, bytes]:
    """For every value of a graph what tells how it comes about, whatever it is called."""
    found = {t.name: _digest(numpy_helper.to_array(t).tobytes(), bytes(_kind(t))) for t in graph.initializer}
    for node in graph.node:
        how = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        made = _digest(node.op_type.encode(), *how, *(found.get(n, n.encode()) for n in taken(node)))
        found |= {name: _digest(made, bytes([place])) for place, name in enumerate(node.output)}
    return found


def behind(
    graph: onnx.GraphProto, ends: Sequence[str], stop: Collection[str] = ()
) -> tuple[list[onnx.NodeProto], list[str]]:
    """The nodes that these values come from, in their order, and the values of `stop` at which they begin."""
    makers = {name: node for node in graph.node for name in node.output}
    ahead, seen, met = list(ends), set[str](), list[str]()
    while ahead:
        name = ahead.pop()
        if name in seen or name not in makers:
            continue
        seen.add(name)
        if name in stop:
            met.append(name)
        else:
            ahead += taken(makers[name])
    needed = seen - set(met)
    return [node for node in graph.node if needed & set(node.output)], met


def taken(node: onnx.NodeProto) -> list[str]:
    """The values that a node takes, those too that its branches take from around it."""
    found = list(node.input)
    for branch in _branches(node):
        made = {name for inner in branch.node for name in inner.output}
        found += [name for inner in branch.node for name in taken(inner) if name not in made]
    return found


def _branches(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _rounded(graph: onnx.GraphProto) -> dict[str, str]:
    """For what its nodes give the name that others take it by: rounded, where it is."""
    halves = {node.input[0]: node.output[0] for node in graph.node if node.op_type in PAIR}
    given = [name for node in graph.node for name in node.output]
    return {name: halves.get(halves.get(name, ""), name) for name in given}


def _round_alike(graph: onnx.GraphProto, before: onnx.GraphProto, head: Sequence[str]) -> None:
    """Scales and zero points of the last product as they were before."""
    own, its = ({t.name: t for t in g.initializer} for g in (graph, before))
    for name, was in zip(_head(graph), head, strict=False):  # one of them may be in FP32
        own[name].CopyFrom(_named(its[was], name))


def _head(graph: onnx.GraphProto) -> list[str]:
    """Scales and zero points of what goes into the last product and comes out of it; none of one in FP32."""
    product = last(graph)
    back = {node.output[0]: node for node in graph.node if node.op_type == PAIR[1]}
    if product.input[1] not in back:
        return []
    comes_out = [n for n in graph.node if n.op_type == PAIR[0] and n.input[0] == product.output[0]]
    return [name for node in (back[product.input[0]], *comes_out) for name in node.input[1:]]


def _names(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    return {name for node in nodes for name in (*taken(node), *node.output, node.name)}


def _free(name: str, used: Collection[str]) -> str:
    while name in used:
        name += BESIDE
    return name


def _renamed(nodes: Iterable[onnx.NodeProto], called: Mapping[str, str]) -> list[onnx.NodeProto]:
    made = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    for node in made:
        node.name = called.get(node.name, node.name)
        for names in (node.input, node.output):
            names[:] = [called.get(name, name) for name in names]
        for branch in _branches(node):
            nodes = _renamed(branch.node, called)
            del branch.node[:]
            branch.node.extend(nodes)
    return made


def _named(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    made: onnx.TensorProto = onnx.TensorProto.FromString(tensor.SerializeToString())
    made.name = name
    return made


def _digest(*parts: bytes) -> bytes:
    """Of parts that cannot be taken for others'."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


def _kind(tensor: onnx.TensorProto) -> list[int]:
    return [tensor.data_type, *(byte for size in tensor.dims for byte in size.to_bytes(8, "big"))]
