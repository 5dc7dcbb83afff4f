"""Rounding moves no channel's mean."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from training import quantize
from training.bias_correction import correct, rounded
from training.quantize import Twin

SHAPES = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 1, 1), "w3": (8, 2, 3, 3), "b3": (8,)}
SHAPES |= {"w4": (5, 8, 1, 1), "b4": (5,)}


def graph(folder: Path) -> Path:
    """Convolutions with a bias, without one, in groups, and again with one."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w2"], ["b"], "bare"),
        helper.make_node("Conv", ["b", "w3", "b3"], ["g"], "groups", group=4),
        helper.make_node("Conv", ["g", "w4", "b4"], ["c"], "last"),
    ]
    drawn = {n: rng.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}
    drawn["b1"] += 10  # so that Relu cuts off nothing, and no noise with it
    tensors = [numpy_helper.from_array(values, n) for n, values in drawn.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 12, "W"])
    answer = helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 5, 8, "V"])
    made = helper.make_graph(nodes, "g", [image], [answer], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "fp32.onnx")
    return folder / "fp32.onnx"


def lines() -> list[np.ndarray]:
    """Images that rounding makes brighter: their values lie above the middle of two steps."""
    rng, shape = np.random.default_rng(1), (40, 1, 3, 12, 40)
    drawn = (rng.integers(-120, 120, shape) + rng.uniform(0.5, 0.9, shape)) * 2 / 255
    drawn[..., 0, :2] = -1, 1
    return list(drawn.astype(np.float32))


def means(path: Path, images: list[np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path)
    return np.mean([session.run(None, {"image": i})[0].mean((0, 2, 3)) for i in images], axis=0)


def drift(folder: Path, layers: list[str]) -> float:
    """How far the mean of a channel of the answers moves at most, in INT8, on lines of their kind."""
    source, unseen = graph(folder), lines()[20:]
    with Twin(source, lines()[:20]) as twin:
        onnx.save(twin.model(layers), folder / "int8.onnx")
    return float(np.abs(means(folder / "int8.onnx", unseen) - means(source, unseen)).max())


@pytest.mark.parametrize("layers", [["first"], ["first", "last"]], ids=["one", "several"])
def test_rounding_moves_no_channels_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: list[str]
) -> None:
    monkeypatch.setattr(quantize, "worthwhile", lambda found: [layer.name for layer in found])
    corrected = drift(tmp_path, layers)
    monkeypatch.setattr(quantize, "correct", lambda twin, *_: twin)
    assert corrected < 0.5 * drift(tmp_path, layers)


def test_where_nothing_is_to_be_corrected_no_line_is_looked_at(tmp_path: Path) -> None:
    exact = onnx.load(graph(tmp_path))
    unread = iter([{}])
    assert correct(exact, exact, unread) == exact
    assert list(unread) == [{}]


def test_rounding_is_that_of_the_graphs() -> None:
    values = np.random.default_rng(2).normal(size=(1, 4, 50)).astype(np.float32)
    scale, zero = np.float32(0.01), np.array(100, np.uint8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    constants = [numpy_helper.from_array(np.asarray(v), n) for n, v in (("s", scale), ("z", zero))]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, 50]) for n in "xy")
    made = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    session = onnxruntime.InferenceSession(made.SerializeToString())
    assert np.allclose(rounded(values, scale, zero), session.run(None, {"x": values})[0], atol=1e-6)
