"""What a reader does not teach anew answers in INT8, bit for bit, as the reader that it goes on from."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training import quantize
from training.as_before import as_before, shared, taken
from training.quantize import Twin

Floats = NDArray[np.float32]
CLASSES = 5
DARK = [-np.abs(x).astype(np.float32) for x in np.random.default_rng(1).normal(size=(6, 1, 3, 10, 20))]
LIGHT = [-x for x in DARK]  # these are read by what was taught


def reader(path: Path, taught: int = 0, stem: int = 0) -> Path:
    """A graph with a stem and a neck; where something was `taught` (a seed) a second neck answers for
    light images, with more classes in the one head, chosen by a branch."""
    frozen, own = np.random.default_rng(stem), np.random.default_rng(taught)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 1, 1), "wn": (4, 8, 1, 1), "head": (20, CLASSES)}
    held = {n: frozen.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["a"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w2"], ["features"], "block"),
        helper.make_node("Conv", ["features", "wn"], ["said"], "neck"),
    ]
    if taught:
        held |= {"wt": own.normal(size=(4, 8, 1, 1)).astype(np.float32), "none": np.zeros((), np.float32)}
        held["head"] = np.hstack([held["head"], own.normal(size=(20, 3)).astype(np.float32)])
        nodes += [
            helper.make_node("Conv", ["features", "wt"], ["learned"], "taught"),
            helper.make_node("ReduceMean", ["image"], ["mean"], "mean", keepdims=0),
            helper.make_node("Greater", ["mean", "none"], ["light"], "greater"),
            helper.make_node("If", ["light"], ["read"], "if", **branches("learned", "said")),
        ]
    nodes.append(helper.make_node("MatMul", ["read" if taught else "said", "head"], ["answer"], "head"))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 10, 20])
    answer = helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 4, 10, held["head"].shape[1]])
    tensors = [numpy_helper.from_array(value, name) for name, value in held.items()]
    graph = helper.make_graph(nodes, "g", [image], [answer], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def branches(then: str, otherwise: str) -> dict[str, onnx.GraphProto]:
    made = {}
    for name, value in (("then", then), ("else", otherwise)):
        end = helper.make_tensor_value_info(f"{name}_read", TensorProto.FLOAT, None)
        node = helper.make_node("Identity", [value], [end.name], f"{name}_identity")
        made[f"{name}_branch"] = helper.make_graph([node], name, [], [end])
    return made


def answers(graph: Path | onnx.ModelProto, images: list[Floats]) -> Floats:
    data = graph.read_bytes() if isinstance(graph, Path) else graph.SerializeToString()
    session = onnxruntime.InferenceSession(data)
    return np.concatenate([session.run(None, {"image": image})[0] for image in images])


@pytest.fixture(autouse=True)
def every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "worthwhile", lambda found: [layer.name for layer in found])


def twin_of(path: Path, images: list[Floats]) -> onnx.ModelProto:
    with Twin(path, images) as twin:
        return twin.model(twin.layers)


def kept(path: Path, images: list[Floats], before: onnx.ModelProto, exact: Path) -> onnx.ModelProto:
    with Twin(path, images) as twin:
        made = as_before(twin, onnx.load(path), before, onnx.load(exact))
    assert made
    return made


def test_what_was_not_taught_is_answered_as_before(tmp_path: Path) -> None:
    base = reader(tmp_path / "base.onnx")
    before = twin_of(base, [*DARK[:3], *LIGHT[:3]])
    for generation, seed in enumerate((1, 2, 3)):  # each goes on from the one before
        path = reader(tmp_path / f"{seed}.onnx", taught=seed)
        anew = twin_of(path, LIGHT)
        made = kept(path, LIGHT, before, tmp_path / f"{seed - 1}.onnx" if generation else base)
        was, now, other = (answers(graph, DARK)[..., :CLASSES] for graph in (before, made, anew))
        assert np.array_equal(was, now)
        assert not np.array_equal(was, other)
        exact, taught = answers(path, LIGHT), answers(made, LIGHT)
        assert 0 < np.abs(exact - taught).mean() < exact.std() / 3
        before = made


def test_the_head_stays_exact_where_it_was(tmp_path: Path) -> None:
    base = reader(tmp_path / "base.onnx")
    with Twin(base, DARK) as twin:
        before = twin.model([name for name in twin.layers if name != twin.last])
    made = kept(reader(tmp_path / "1.onnx", taught=1), LIGHT, before, base)
    assert np.array_equal(answers(before, DARK), answers(made, DARK)[..., :CLASSES])
    assert "head" in {t.name for t in made.graph.initializer}


def test_a_reader_of_another_kind_is_rounded_on_its_own(tmp_path: Path) -> None:
    base, other = reader(tmp_path / "base.onnx"), reader(tmp_path / "other.onnx", stem=7)
    with Twin(other, LIGHT) as twin:
        assert as_before(twin, onnx.load(other), twin_of(base, DARK), onnx.load(base)) is None
        assert as_before(twin, *[onnx.load(other)] * 3) is None, "nothing is rounded there"


def test_branches_are_told_apart_by_what_they_take_from_around_them(tmp_path: Path) -> None:
    one, two = (onnx.load(reader(tmp_path / f"{n}.onnx", taught=n)).graph for n in (1, 2))
    choice = next(node for node in one.node if node.name == "if")
    assert set(taken(choice)) == {"light", "learned", "said"}
    same = shared(one, two)
    assert {"features", "said", "light"} <= same.keys()
    assert not {"learned", "read", "answer"} & same.keys()
