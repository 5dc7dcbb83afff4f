"""A bundle of a few KB that really reads: lines painted like punched tape.

`paint("cab")` draws each character as a black mark, CELL px wide, on white; which character it is
says the mark's height on the line (the first of the alphabet at the top). `build` writes a bundle
whose graph finds the darkest of the heights in every column. It stands being scaled, blurred, and
saved as JPEG, because neither moves a mark to another height. So an upload of
`paint("hello world")` is read as "hello world", in less than a millisecond.

`misread={"e": "c"}` makes a version that reads every e as c, for versions that must differ, for
the better and the worse. The alphabet is the 26 small letters and the space unless given. Tests
import this file by `import tiny_bundle`.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from redpencil.bundle import Graph, Manifest
from redpencil.pixels import Preprocessing
from redpencil.types import Precision

ALPHABET = tuple(string.ascii_lowercase + " ")
CELL = 16
_BAND = 4
_STEP = 8


def paint(text: str, alphabet: tuple[str, ...] = ALPHABET) -> np.ndarray:
    """A line image (H x W x 3, uint8) that the tiny bundle reads as `text`."""
    line = np.full((_BAND * len(alphabet), 2 * CELL * max(1, len(text)), 3), 255, np.uint8)
    for i, c in enumerate(text):
        top, left = _BAND * alphabet.index(c), 2 * CELL * i + CELL // 2
        line[top : top + _BAND, left : left + CELL] = 0
    return line


def build(
    folder: Path,
    misread: dict[str, str] | None = None,
    misread_int8: dict[str, str] | None = None,
    alphabet: tuple[str, ...] = ALPHABET,
    precision: Precision = Precision.INT8,
    lineage: dict[str, Any] | None = None,
) -> Manifest:
    """Write the bundle, with both graphs; `misread_int8` is what the INT8 one reads wrong beyond."""
    folder.mkdir(parents=True, exist_ok=True)
    wrong = misread or {}
    graphs = {
        Precision.FP32: _write(folder / "fp32.onnx", alphabet, wrong),
        Precision.INT8: _write(folder / "int8.onnx", alphabet, wrong | (misread_int8 or {})),
    }
    manifest = Manifest(preprocessing(alphabet), alphabet, graphs, precision, lineage or {"origin": "tiny"})
    manifest.save(folder)
    return manifest


def preprocessing(alphabet: tuple[str, ...] = ALPHABET) -> Preprocessing:
    return Preprocessing(_BAND * len(alphabet), "rgb", (0.0,) * 3, (1.0,) * 3, pad_value=1.0)


def _write(path: Path, alphabet: tuple[str, ...], misread: dict[str, str]) -> Graph:
    # Class i+1 answers with the alphabet's entry i, so a misreading is one class for another.
    said = [alphabet.index(misread.get(c, c)) + 1 for c in alphabet]
    save(_model(len(alphabet), np.array([0, *said], np.int64)), path)
    return Graph.of(path)


def _model(characters: int, said: np.ndarray) -> Any:
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["image"], ["grey"], axes=[1], keepdims=1),  # [B, 1, H, W]
        node("Sub", ["one", "grey"], ["dark"]),
        node("AveragePool", ["dark"], ["marks"], kernel_shape=[_BAND, _STEP], strides=[_BAND, _STEP]),
        node("Squeeze", ["marks", "axis"], ["bands"]),  # [B, K-1, T]
        node("Pad", ["bands", "pads", "half"], ["scores"]),  # blank wins where no mark is
        node("Mul", ["scores", "sharpness"], ["logits"]),
        node("Softmax", ["logits"], ["shares"], axis=1),
        node("ReduceMax", ["shares"], ["probabilities"], axes=[1], keepdims=0),
        node("ArgMax", ["logits"], ["found"], axis=1, keepdims=0),
        node("Gather", ["said", "found"], ["indices"]),
    ]
    constants = {
        "one": np.array(1, np.float32),
        "axis": np.array([1], np.int64),
        "pads": np.array([0, 1, 0, 0, 0, 0], np.int64),
        "half": np.array(0.45, np.float32),
        "sharpness": np.array(20, np.float32),
        "said": said,
    }
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 3, _BAND * characters, "W"])
    outputs = [
        helper.make_tensor_value_info("indices", TensorProto.INT64, ["B", "T"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["B", "T"]),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "punched tape", [image], outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
