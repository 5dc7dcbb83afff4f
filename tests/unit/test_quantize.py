"""Which layers become INT8, and how they go back."""

from collections.abc import Callable, Sequence

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from training.quantize import Layer, Probe, careful, worthwhile

LAYERS = [f"layer{n}" for n in range(8)]


def harm(**by_layer: float) -> Callable[[Sequence[str]], float]:
    """A loss that is the sum over the layers chosen."""
    return lambda chosen: sum(by_layer.get(name, 0.0) for name in chosen)


def test_all_layers_stay_where_little_is_lost() -> None:
    assert careful(LAYERS, harm(layer3=1.0), allowed=1.0) == LAYERS


def test_the_group_that_does_the_harm_goes_back() -> None:
    assert careful(LAYERS, harm(layer3=5.0, layer6=1.0), allowed=1.0) == [
        n for n in LAYERS if n not in ("layer2", "layer3")
    ]


def test_groups_go_back_until_little_is_lost() -> None:
    assert careful(LAYERS, harm(layer0=5.0, layer7=4.0), allowed=1.0) == LAYERS[2:6]


def test_no_layer_stays_where_every_one_does_harm() -> None:
    assert careful(LAYERS, harm(**dict.fromkeys(LAYERS, 5.0)), allowed=1.0) == []


def test_a_model_without_layers_has_none_to_choose() -> None:
    assert careful([], harm(), allowed=1.0) == []


def test_light_layers_stay_out() -> None:
    assert worthwhile([Layer("heavy", 995, True), Layer("light", 5, True)]) == ["heavy"]


def test_matrix_products_alone_where_they_do_most_of_the_work() -> None:
    layers = [Layer("wide", 40, False), Layer("product", 60, True)]
    assert worthwhile(layers) == ["product"]


def test_all_heavy_layers_where_products_do_less() -> None:
    layers = [Layer("wide", 60, False), Layer("product", 40, True)]
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
    assert probe.ranges([line, line / 2]) == {"image": (-1.0, 5.0)}
