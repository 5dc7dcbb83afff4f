"""Channels that one step of rounding would drown are evened, and in FP32 nothing changes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from training import quantize
from training.even_channels import evened, noisy, shares
from training.probe import Met, Probe
from training.quantize import Twin

CHANNELS = 8


def graph(folder: Path, groups: int = 1) -> Path:
    """A convolution that takes the image, and a product of its answers."""
    rng = np.random.default_rng(0)
    shapes = {"w": (4, CHANNELS // groups, 1, 1), "b": (4,)}
    tensors = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [helper.make_node("Conv", ["image", "w", "b"], ["c"], "layer", group=groups)]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, CHANNELS, 4, "W"])
    answer = helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 4, 4, "W"])
    made = helper.make_graph(nodes, "g", [image], [answer], tensors)
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "g.onnx"
    )
    return folder / "g.onnx"


def images(loud: float) -> list[np.ndarray]:
    """Normal values, but for one place of the first channel of the first image, which is as loud as this."""
    drawn = np.random.default_rng(1).normal(size=(6, 1, CHANNELS, 4, 400)).astype(np.float32)
    drawn[0, :, 0, 0, 0] = loud
    return list(drawn)


def answers(model: Path | bytes, shown: list[np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(model)
    return np.stack([session.run(None, {"image": image})[0] for image in shown])


def test_in_fp32_the_graph_answers_as_before_and_each_channel_has_its_room(tmp_path: Path) -> None:
    path, shown = graph(tmp_path), images(100.0)
    met = Probe(onnx.load(path)).met(shown)
    made, seen = evened(onnx.load(path), {"layer"}, met)
    assert np.allclose(answers(made.SerializeToString(), shown), answers(path, shown), atol=1e-3)
    after = Probe(made).met(shown)["layer_even"]
    assert np.allclose([after.low, after.high], [seen["layer_even"].low, seen["layer_even"].high], rtol=1e-5)
    quiet = met["image"].widths[1:] / met["image"].widths.max()
    assert after.widths[1:] == pytest.approx(met["image"].widths[1:] / np.sqrt(quiet), rel=1e-4)


@pytest.mark.parametrize(
    ("loud", "groups", "layers"), [(1.0, 1, {"layer"}), (400.0, 2, {"layer"}), (400.0, 1, set())]
)
def test_a_quiet_value_groups_and_layers_in_fp32_stay(
    tmp_path: Path, loud: float, groups: int, layers: set[str]
) -> None:
    path = graph(tmp_path, groups)
    met = Probe(onnx.load(path)).met(images(loud))
    made, seen = evened(onnx.load(path), layers, met)
    assert (made, seen) == (onnx.load(path), met)


def test_int8_loses_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "worthwhile", lambda found: [layer.name for layer in found])
    path, shown, wrong = graph(tmp_path), images(100.0), []
    for even in (True, False):
        if not even:
            monkeypatch.setattr(quantize, "evened", lambda model, _, met: (model, met))
        with Twin(path, shown) as twin:
            onnx.save(twin.model(twin.layers), tmp_path / "int8.onnx")
        apart = answers(tmp_path / "int8.onnx", shown) - answers(path, shown)
        wrong.append(np.abs(apart[..., 1:]).mean())
    assert wrong[0] < 0.8 * wrong[1], "what is left is what the answers themselves are rounded by"


def test_noise_is_what_rounding_adds_beside_how_far_values_spread() -> None:
    values = np.random.default_rng(2).uniform(-1, 1, (1, 3, 2000)).astype(np.float32)
    met = Met.of(values).beside(Met.of(values / 2))
    assert met.variance == pytest.approx((1 / 3 + 1 / 12) / 2, rel=0.05)
    assert not noisy(met), "8 bits are enough for values that fill their range"
    values[0, 0, 0] = 100
    assert noisy(Met.of(values))
    assert shares(Met.of(values)).tolist() == pytest.approx([1, 0.1407, 0.1407], abs=0.002)
