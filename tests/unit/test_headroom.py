"""INT8 weights that every CPU multiplies exactly."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.headroom import TOP, largest, overrides, shrunk


def test_neighbours_of_a_sign_count_together() -> None:
    rows = np.array([[1, 2, 3, 4], [1, -2, 3, -4], [0, 9, 1, 1], [0, 0, 0, 0]], np.float32)
    assert largest(rows).tolist() == [7, 4, 9, 0]
    assert largest(rows[:, :3]).tolist() == [3, 3, 9, 0], "the last one of an odd row stands alone"


def product(whole: np.ndarray, given: np.ndarray) -> np.ndarray:
    """What ONNX Runtime makes of uint8 values and int8 weights on this machine."""
    ends = [("a", TensorProto.UINT8, given.shape), ("y", TensorProto.INT32, None)]
    image, answer = (helper.make_tensor_value_info(*end) for end in ends)
    node = helper.make_node("MatMulInteger", ["a", "w"], ["y"])
    made = helper.make_graph([node], "g", [image], [answer], [numpy_helper.from_array(whole, "w")])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    found: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"a": given})[0]
    return found


@pytest.mark.parametrize("columns", [1, 7, 16, 64])
def test_no_sum_overflows_whatever_comes_in(columns: int) -> None:
    rng = np.random.default_rng(columns)
    whole = rng.integers(-TOP, TOP + 1, (65, columns)).astype(np.int8)
    given = rng.choice(np.array([0, 200, 255], np.uint8), (9, 65))
    made, scale = shrunk(whole, np.ones(columns, np.float32))
    assert (product(made, given) == given.astype(np.int64) @ made.astype(np.int64)).all()
    assert np.abs(made * scale - whole).max() <= scale.max() / 2 + 1e-5
    assert scale.max() < 2.01


def test_convolutions_and_products_are_told_of_in_both_orders() -> None:
    conv = np.zeros((1, 2, 1, 2), np.float32)
    conv[0, :, 0, 0] = 3, 4  # neighbours by channel, not by place
    tensors = [numpy_helper.from_array(a, n) for a, n in ((conv, "k"), (np.eye(2, dtype=np.float32), "m"))]
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], "conv"),
        helper.make_node("MatMul", ["a", "m"], ["b"], "product"),
        helper.make_node("MatMul", ["b", "a"], ["c"], "of two images"),
    ]
    found = overrides(helper.make_graph(nodes, "g", [], [], tensors), {n.name for n in nodes})
    assert found == {
        "k": [{"axis": 0, "rmin": -7, "rmax": 7}],
        "m": [{"axis": 1, "rmin": -1, "rmax": 1}] * 2,
    }
