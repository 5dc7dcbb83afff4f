"""Graphs in INT8 answer nearly as before, with every matrix stored once."""

import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training import dynamic_int8
from training.half import Half
from training.lora import Lora


class Writer(nn.Module):
    """Words that are the head as well, a layer with bias, one with matrices beside it, one of halves."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(200, 64)
        self.first, self.second = nn.Linear(64, 64), Lora(nn.Linear(64, 64, bias=False), 4, 8.0, 0.0)
        self.third = Half(nn.Linear(64, 64))
        nn.init.normal_(self.second.up)
        self.small = nn.Linear(64, 4)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.words(ids)
        x = x + self.second(F.gelu(self.first(x)))
        x = x + self.third(F.gelu(x))
        return F.linear(x, self.words.weight), self.small(x[:, 0])


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    ids = torch.zeros(2, 3, dtype=torch.long)
    torch.onnx.export(
        Writer().eval(),
        (ids,),
        str(tmp_path / "fp32.onnx"),
        input_names=["ids"],
        dynamic_axes={"ids": {0: "B", 1: "S"}},
        do_constant_folding=False,
        opset_version=20,
        dynamo=False,
    )
    return tmp_path


def answers(graph: onnx.ModelProto, ids: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[NDArray[np.float32]] = session.run(None, {"ids": ids})
    return found


def test_answers_stay_near_and_a_quarter_is_stored(exported: Path) -> None:
    dynamic_int8.write(exported / "fp32.onnx", exported / "int8.onnx")
    before, after = (onnx.load(exported / f"{name}.onnx") for name in ("fp32", "int8"))
    ids = np.random.default_rng(0).integers(0, 200, (5, 7))
    for wanted, found in zip(answers(before, ids), answers(after, ids), strict=True):
        assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.999
        assert np.abs(wanted - found).max() < 0.05 * np.abs(wanted).max()
    assert after.ByteSize() < 0.4 * before.ByteSize()


def test_every_large_matrix_is_there_once_and_in_int8(exported: Path) -> None:
    dynamic_int8.write(exported / "fp32.onnx", exported / "int8.onnx")
    stored = {t.name: t for t in onnx.load(exported / "int8.onnx").graph.initializer}
    large = [t for t in stored.values() if np.prod(t.dims) >= dynamic_int8.FEWEST]
    assert {t.data_type for t in large} == {onnx.TensorProto.INT8}
    assert sorted(np.prod(t.dims) for t in large) == [64 * 64] * 3 + [200 * 64]
    assert "small.weight" in stored, "a small matrix stays as it is"


def test_a_row_of_zeros_stays_one(tmp_path: Path) -> None:
    layer, buffer = nn.Linear(64, 64), io.BytesIO()
    nn.init.zeros_(layer.weight[3:4].data)
    torch.onnx.export(layer, (torch.zeros(2, 64),), buffer, input_names=["ids"], dynamo=False)
    (tmp_path / "fp32.onnx").write_bytes(buffer.getvalue())
    dynamic_int8.write(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "int8.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {"ids": np.ones((2, 64), np.float32)})[0]
    assert found[:, 3] == pytest.approx(float(layer.bias[3]), abs=1e-6)
    assert "MatMulIntegerToFloat" in {n.op_type for n in onnx.load(tmp_path / "int8.onnx").graph.node}
