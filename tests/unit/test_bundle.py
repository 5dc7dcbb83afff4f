"""A bundle is whole, hash for hash, or it is not used."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_bundle
from onnx import TensorProto, helper

from redpencil import bundle
from redpencil.blobs import Blobs
from redpencil.bundle import Graph, Manifest
from redpencil.errors import Damaged, NotFound, NotReady
from redpencil.language import Language
from redpencil.reader import LineReader, read_parallel
from redpencil.types import Precision


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_bundle.build(tmp_path / "bundle", misread_int8={"x": "y"})
    return tmp_path / "bundle"


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs.open(str(tmp_path / "blobs"))


def change(folder: Path, **fields: object) -> None:
    """Rewrite fields of bundle.json as somebody else might."""
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8")


# --- the manifest -------------------------------------------------------------------------------


def test_a_manifest_survives_its_file(folder: Path) -> None:
    once = Manifest.load(folder)
    once.save(folder)
    assert Manifest.load(folder) == once


def test_equal_manifests_have_equal_bytes_and_so_equal_ids(tmp_path: Path) -> None:
    for name in ("one", "two"):
        tiny_bundle.build(tmp_path / name, lineage={"b": 1, "a": 2} if name == "one" else {"a": 2, "b": 1})
    assert bundle.bundle_id(tmp_path / "one") == bundle.bundle_id(tmp_path / "two")


def test_a_changed_graph_is_named(folder: Path) -> None:
    with (folder / "int8.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(Damaged, match=r"int8\.onnx does not match its hash"):
        Manifest.load(folder)


@pytest.mark.parametrize("name", ["fp32.onnx", "bundle.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(Damaged, match=f"{name} is missing"):
        Manifest.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 1}', "\x80"])
def test_what_is_no_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(Damaged, match="not a bundle's manifest"):
        Manifest.load(folder)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format_version": 2}, "format 2 is unknown"),
        ({"decoder": "pickle"}, "decoder 'pickle' is unknown"),
        ({"alphabet": ["a", ""]}, "alphabet"),
        ({"graphs": {}}, "no such graph"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(folder: Path, fields: dict, words: str) -> None:
    change(folder, **fields)
    with pytest.raises(Damaged, match=words):
        Manifest.load(folder)


@pytest.mark.parametrize("name", ["../fp32.onnx", "/etc/passwd", "..", "", "bundle.json"])
def test_a_graph_outside_its_folder_is_refused(folder: Path, name: str) -> None:
    change(folder, graphs={"int8": {"file": name, "sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(Damaged, match="outside its folder"):
        Manifest.load(folder)


def test_a_graph_with_weights_in_other_files_is_refused(folder: Path) -> None:
    model = onnx.load(folder / "fp32.onnx")
    onnx.save(
        model, folder / "fp32.onnx", save_as_external_data=True, location="fp32.onnx.data", size_threshold=0
    )
    change(folder, graphs={"int8": vars(Graph.of(folder / "fp32.onnx"))})
    with pytest.raises(Damaged, match="weights in other files"):
        Manifest.load(folder)


# --- among the blobs ----------------------------------------------------------------------------


def test_a_bundle_comes_back_from_the_blobs_as_it_went(folder: Path, blobs: Blobs, tmp_path: Path) -> None:
    name = bundle.put(folder, blobs)
    fetched = bundle.fetch(name, blobs, tmp_path / "cache")
    assert bundle.bundle_id(fetched) == name
    assert Manifest.load(fetched) == Manifest.load(folder)


def test_a_fetched_bundle_is_not_fetched_again(folder: Path, blobs: Blobs, tmp_path: Path) -> None:
    name = bundle.put(folder, blobs)
    first = bundle.fetch(name, blobs, tmp_path / "cache")
    born = (first / "fp32.onnx").stat().st_ino
    assert (bundle.fetch(name, blobs, tmp_path / "cache") / "fp32.onnx").stat().st_ino == born


def test_a_damaged_copy_in_the_cache_is_replaced(folder: Path, blobs: Blobs, tmp_path: Path) -> None:
    name = bundle.put(folder, blobs)
    (bundle.fetch(name, blobs, tmp_path / "cache") / "fp32.onnx").write_bytes(b"cut sho")
    assert Manifest.load(bundle.fetch(name, blobs, tmp_path / "cache"))


def test_many_may_fetch_at_once_and_leave_nothing_behind(folder: Path, blobs: Blobs, tmp_path: Path) -> None:
    name, cache = bundle.put(folder, blobs), tmp_path / "cache"
    with ThreadPoolExecutor(8) as pool:
        places = set(pool.map(lambda _: bundle.fetch(name, blobs, cache), range(16)))
    assert places == {cache / name}
    assert [path.name for path in cache.iterdir()] == [name]


def test_an_unknown_bundle_leaves_nothing_behind(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        bundle.fetch("0" * 64, blobs, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_language_is_a_ctc_readers(folder: Path) -> None:
    manifest = Manifest.load(folder)
    told = replace(manifest, language=Language.of(["hello"]).save(folder))
    told.save(folder)
    assert Manifest.load(folder) == told
    assert LineReader(folder).read(tiny_bundle.paint("hello")).text == "hello"
    with pytest.raises(Damaged, match="lacks the tokenizer"):
        replace(told, decoder="autoregressive", language=None).save(folder)
    with pytest.raises(Damaged, match="names a language"):
        replace(told, decoder="autoregressive").save(folder)


# --- reading ------------------------------------------------------------------------------------


def test_a_reader_reads(folder: Path) -> None:
    line = LineReader(folder).read(tiny_bundle.paint("hello world"))
    assert line.text == "hello world"
    assert len(line.char_confidence) == 11
    assert line.confidence > 0.9


def test_a_line_may_come_in_any_size_and_as_a_photograph(folder: Path) -> None:
    painted = tiny_bundle.paint("any size will do")
    for scale in (0.3, 0.7, 2.2):
        scaled = cv2.resize(painted, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        photograph = cv2.imdecode(cv2.imencode(".jpg", scaled)[1], cv2.IMREAD_COLOR)
        assert LineReader(folder).read(photograph).text == "any size will do"


def test_the_precision_is_the_manifests_unless_asked_for(folder: Path) -> None:
    line = tiny_bundle.paint("fox")
    assert LineReader(folder).precision is Precision.INT8
    assert LineReader(folder).read(line).text == "foy"
    assert LineReader(folder, Precision.FP32).read(line).text == "fox"


def test_a_precision_that_is_not_there_is_not_found(folder: Path) -> None:
    manifest = Manifest.load(folder)
    fp32 = {Precision.FP32: manifest.graphs[Precision.FP32]}
    replace(manifest, graphs=fp32, precision=Precision.FP32).save(folder)
    with pytest.raises(NotFound, match="no int8 graph"):
        LineReader(folder, Precision.INT8)


def test_many_threads_read_what_one_reads(folder: Path) -> None:
    lines = [tiny_bundle.paint(text) for text in ("one", "two", "three", "a somewhat longer one", "") * 8]
    reader = LineReader(folder)
    assert read_parallel(reader, lines, workers=4) == [reader.read(line) for line in lines]


def test_nothing_to_read_is_read_as_nothing(folder: Path) -> None:
    assert read_parallel(LineReader(folder), [], workers=4) == []


def test_a_batch_of_equal_widths_reads_as_its_lines_alone(folder: Path) -> None:
    reader = LineReader(folder)
    texts = ("cab", "abc", "bca")
    tensors = [reader.tensor(tiny_bundle.paint(text)) for text in texts]
    assert [reader.text(*row).text for row in zip(*reader.infer(np.stack(tensors)), strict=True)] == list(
        texts
    )


def test_a_file_that_is_no_graph_is_damage(folder: Path) -> None:
    (folder / "int8.onnx").write_bytes(b"no graph")
    change(folder, graphs={"int8": vars(Graph.of(folder / "int8.onnx"))})
    with pytest.raises(Damaged, match=r"cannot load .*int8\.onnx"):
        LineReader(folder)


def test_a_graph_that_reads_no_lines_is_damage(folder: Path) -> None:
    value = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["x"], ["y"])
    ends = ([value("x", TensorProto.FLOAT, ["B"])], [value("y", TensorProto.FLOAT, ["B"])])
    model = helper.make_model(
        helper.make_graph([node], "g", *ends), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    onnx.save(model, folder / "int8.onnx")
    change(folder, graphs={"int8": vars(Graph.of(folder / "int8.onnx"))})
    with pytest.raises(Damaged, match="not a line reader"):
        LineReader(folder)


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a CUDA device here")
def test_cuda_is_refused_in_words_where_there_is_none(folder: Path) -> None:
    with pytest.raises(NotReady, match="no CUDA"):
        LineReader(folder, device="cuda")


def test_cuda_is_taken_where_there_is_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = onnxruntime.InferenceSession

    class Cuda(cpu):
        def __init__(self, *given: Any, providers: list[Any]) -> None:
            super().__init__(*given, providers=["CPUExecutionProvider"])
            self.asked = providers

        def get_providers(self) -> list[str]:
            return [p if isinstance(p, str) else p[0] for p in self.asked]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Cuda)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda directory: None)
    reader = LineReader(folder, device="cuda")
    assert (reader.device, reader.precision) == ("cuda", Precision.FP32)
