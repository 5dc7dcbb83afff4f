"""Which layers become INT8, and how they go back."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from training import quantize
from training.probe import Layer, Probe
from training.quantize import Twin, careful, quarters, worthwhile

LAYERS = [f"layer{n}" for n in range(8)]


def harm(**by_layer: float) -> Callable[[Sequence[str]], float]:
    """A loss that is the sum over the layers chosen."""
    return lambda chosen: sum(by_layer.get(name, 0.0) for name in chosen)


def test_all_layers_stay_where_little_is_lost() -> None:
    assert careful(quarters(LAYERS), harm(layer3=1.0), allowed=1.0) == (LAYERS, 1.0)


def test_the_group_that_does_the_harm_goes_back() -> None:
    rest = [n for n in LAYERS if n not in ("layer2", "layer3")]
    assert careful(quarters(LAYERS), harm(layer3=5.0, layer6=1.0), allowed=1.0) == (rest, 1.0)


def test_groups_go_back_until_little_is_lost() -> None:
    assert careful(quarters(LAYERS), harm(layer0=5.0, layer7=4.0), allowed=1.0) == (LAYERS[2:6], 0.0)


def test_of_choices_that_lose_little_enough_the_one_that_does_most_work_is_taken() -> None:
    work = {"light": 1, "heavy": 100, "other": 50}
    parts = [[name] for name in work]
    chosen, _ = careful(parts, harm(light=4.0, heavy=5.0), 5.0, lambda names: sum(work[n] for n in names))
    assert chosen == ["heavy", "other"], "without the heavy one less would be lost"


def test_no_layer_stays_where_every_one_does_harm() -> None:
    assert careful(quarters(LAYERS), harm(**dict.fromkeys(LAYERS, 5.0)), allowed=1.0) == ([], 0.0)


def test_what_is_quick_enough_stays_though_it_loses_more_than_allowed() -> None:
    harmful = harm(**(dict.fromkeys(LAYERS, 5.0) | {"layer4": 6.0}))
    kept, lost = careful(quarters(LAYERS), harmful, allowed=1.0, least=0.75)
    assert (kept, lost) == ([n for n in LAYERS if n not in ("layer4", "layer5")], 30.0)


def test_a_model_without_layers_has_none_to_choose() -> None:
    assert careful([], harm(), allowed=1.0) == ([], 0.0)


def test_light_layers_stay_out() -> None:
    assert worthwhile([Layer("heavy", 995, True), Layer("light", 5, True)]) == ["heavy"]


def test_in_a_deep_model_no_layer_does_much_and_all_like_the_heaviest_become_int8() -> None:
    deep = [Layer(f"layer{n}", 4 if n % 2 else 1, True) for n in range(300)]
    assert worthwhile(deep) == [layer.name for layer in deep]
    assert worthwhile([]) == []


def test_matrix_products_alone_where_they_do_nearly_all_of_the_work() -> None:
    layers = [Layer("wide", 20, False), Layer("product", 80, True)]
    assert worthwhile(layers) == ["product"]


def test_all_heavy_layers_where_products_do_less() -> None:
    layers = [Layer("wide", 40, False), Layer("product", 60, True)]
    assert worthwhile(layers) == ["wide", "product"]


def test_work_is_counted_in_multiplications_and_depthwise_layers_are_left_out() -> None:
    weights = {"w3": (8, 3, 3, 3), "dw": (8, 1, 3, 3), "w1": (4, 8, 1, 1), "m": (20, 5)}
    nodes = [
        helper.make_node("Conv", ["image", "w3"], ["a"], "three", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "dw"], ["b"], "depthwise", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Conv", ["b", "w1"], ["c"], "one"),
        helper.make_node("MatMul", ["c", "m"], ["d"], "product"),
    ]
    tensors = [numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in weights.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 10, "W"])
    answer = helper.make_tensor_value_info("d", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [image], [answer], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert Probe(model).layers(np.zeros((1, 3, 10, 20), np.float32)) == [
        Layer("three", 8 * 10 * 20 * 27, False),
        Layer("one", 4 * 10 * 20 * 8, True),
        Layer("product", 4 * 10 * 5 * 20, True),
    ]


def test_a_graph_without_weights_has_no_layers_but_its_image_has_a_range() -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 2, "W"])
    answer = helper.make_tensor_value_info("d", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["d"])], "g", [image], [answer])
    probe = Probe(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    line = np.array([[[[-1, 0, 5], [2, 3, 4]]]], np.float32)
    assert probe.layers(line) == []
    held = probe.met([line, line / 2])["image"]
    assert (held.low.tolist(), held.high.tolist(), held.count) == ([-1.0], [5.0], 12)


def chain(folder: Path) -> Path:
    """Three convolutions, two with a bias, and a product that gives the answer, as a file."""
    rng = np.random.default_rng(0)
    shapes = {
        "w1": (8, 3, 3, 3),
        "w2": (8, 8, 1, 1),
        "w3": (4, 8, 1, 1),
        "m": (20, 5),
        "b1": (8,),
        "b3": (4,),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["a"], "wide", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w2"], ["b"], "middle"),
        helper.make_node("Add", ["a", "b"], ["s"], "around"),
        helper.make_node("Conv", ["s", "w3", "b3"], ["c"], "last"),
        helper.make_node("MatMul", ["c", "m"], ["d"], "product"),
    ]
    tensors = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 10, 20])
    answer = helper.make_tensor_value_info("d", TensorProto.FLOAT, [1, 4, 10, 5])
    graph = helper.make_graph(nodes, "g", [image], [answer], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, folder / "chain.onnx")
    return folder / "chain.onnx"


def test_a_product_goes_back_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "worthwhile", lambda found: [layer.name for layer in found])
    images = list(np.random.default_rng(1).normal(size=(2, 1, 3, 10, 20)).astype(np.float32))
    with Twin(chain(tmp_path), images) as twin:
        assert twin.parts == [["wide"], ["middle"], ["last"], ["product"]]
    assert quarters([f"c{n}" for n in range(6)]) == [["c0", "c1"], ["c2", "c3"], ["c4"], ["c5"]]


EVERY = ["wide", "middle", "last", "product"]
CHOICES = [list(c) for n in range(1, len(EVERY) + 1) for c in itertools.combinations(EVERY, n)]


@pytest.mark.parametrize("layers", CHOICES, ids="-".join)
def test_some_layers_in_int8_answer_as_if_they_alone_had_been_quantised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: list[str]
) -> None:
    images = list(np.random.default_rng(1).normal(size=(4, 1, 3, 10, 20)).astype(np.float32))
    answers = []
    for chosen in (EVERY, layers):  # taken back from all of them, and quantised alone
        monkeypatch.setattr(quantize, "worthwhile", lambda found, chosen=chosen: chosen)
        with Twin(chain(tmp_path), images) as twin:
            onnx.save(twin.model(layers), tmp_path / "int8.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "int8.onnx")
        answers.append([session.run(None, {"image": image})[0] for image in images])
        stored = [t.name for t in onnx.load(tmp_path / "int8.onnx").graph.initializer]
        assert sum(name.endswith("_quantized") for name in stored) >= len(layers)
    assert np.array_equal(*answers)
    exact = onnxruntime.InferenceSession(tmp_path / "chain.onnx").run(None, {"image": images[0]})[0]
    assert not np.array_equal(answers[0][0], exact)
