"""The border between training and serving: a folder with bundle.json and its ONNX graphs.

A bundle is data alone: JSON and ONNX, no pickle, no code. Nothing in it is used before its hash
has been checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from redpencil.decode import ctc_greedy
from redpencil.errors import BadInput, Damaged, NotFound, NotReady
from redpencil.pixels import Pixels, Preprocessing, to_tensor
from redpencil.types import LineText, Precision

if TYPE_CHECKING:
    from redpencil.blobs import Blobs

MANIFEST = "bundle.json"
FORMAT_VERSION = 1
# How protobuf spells the key under which a graph names a file of weights outside itself.
_EXTERNAL_WEIGHTS = b"\n\x08location\x12"


@dataclass(frozen=True)
class Graph:
    """One file of a bundle: an ONNX graph, or a tokenizer.

    What a graph takes and gives depends on the decoder: see `LineReader` and `generate.TextReader`.
    """

    file: str
    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> Graph:
        data = path.read_bytes()
        return cls(path.name, hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class Generation:
    """How an autoregressive decoder is run: it is given `start`, then its own tokens until `end`.

    A token -k-1 stands for the k-th vector of the decoder's input "memory.prefix". At most
    `longest` tokens are written. With several `beams` the candidates' log probabilities are divided
    by their length to the power of `length_penalty`.
    """

    start: tuple[int, ...]
    end: int
    longest: int
    beams: int = 1
    length_penalty: float = 1.0


@dataclass(frozen=True)
class Manifest:
    """What bundle.json says: how to prepare an image, run the graphs and read what they answer.

    `alphabet` is a CTC reader's; `decoders`, `tokenizer` and `generation` are an autoregressive one's,
    whose `graphs` are its encoders.
    """

    preprocessing: Preprocessing
    alphabet: tuple[str, ...]
    graphs: dict[Precision, Graph]
    precision: Precision
    lineage: dict[str, Any] = field(default_factory=dict)
    task: str = "ocr"
    decoder: str = "ctc"
    format_version: int = FORMAT_VERSION
    decoders: dict[Precision, Graph] = field(default_factory=dict)
    tokenizer: Graph | None = None
    generation: Generation | None = None

    def files(self) -> list[Graph]:
        """Every file of the bundle beside its manifest."""
        return [*self.graphs.values(), *self.decoders.values(), *([self.tokenizer] if self.tokenizer else [])]

    def to_json(self) -> bytes:
        """Canonical JSON: the same manifest always gives the same bytes."""
        content = asdict(self) | {
            "preprocessing": self.preprocessing.to_dict(),
            "graphs": {p.value: asdict(g) for p, g in self.graphs.items()},
            "decoders": {p.value: asdict(g) for p, g in self.decoders.items()},
        }
        text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return text.encode("utf-8")

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        try:
            content = json.loads(data)
            content["preprocessing"] = Preprocessing.from_dict(content["preprocessing"])
            content["alphabet"] = tuple(content["alphabet"])
            for kind in ("graphs", "decoders"):
                content[kind] = {Precision(p): Graph(**g) for p, g in content.get(kind, {}).items()}
            content["precision"] = Precision(content["precision"])
            if tokenizer := content.get("tokenizer"):
                content["tokenizer"] = Graph(**tokenizer)
            if generation := content.get("generation"):
                content["generation"] = Generation(**generation | {"start": tuple(generation["start"])})
            manifest = cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError, BadInput) as e:
            raise Damaged(f"{MANIFEST} is not a bundle's manifest: {e!r}") from e
        manifest._check()
        return manifest

    def save(self, folder: Path) -> None:
        """Write bundle.json beside its graphs."""
        self._check()
        (folder / MANIFEST).write_bytes(self.to_json())

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """The manifest of a bundle whose every file is there and matches its hash; else Damaged."""
        manifest = cls.from_json(_read(folder / MANIFEST))
        for file in manifest.files():
            read_graph(folder, file)
        return manifest

    def _check(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise Damaged(f"bundle format {self.format_version} is unknown here; this is {FORMAT_VERSION}")
        if self.decoder not in ("ctc", "autoregressive"):
            raise Damaged(f"decoder {self.decoder!r} is unknown here; known: ctc, autoregressive")
        if self.decoder == "autoregressive":
            self._check_generation()
        if not all(isinstance(c, str) and c for c in self.alphabet):
            raise Damaged(f"{MANIFEST} has an empty or odd entry in its alphabet")
        if self.precision not in self.graphs:
            raise Damaged(f"{MANIFEST} is to be served as {self.precision} but has no such graph")
        for graph in self.files():
            if Path(graph.file).name != graph.file or graph.file in ("", ".", "..", MANIFEST):
                raise Damaged(f"{MANIFEST} names a file outside its folder: {graph.file!r}")

    def _check_generation(self) -> None:
        if self.tokenizer is None or self.generation is None or set(self.decoders) != set(self.graphs):
            raise Damaged(f"{MANIFEST} lacks the tokenizer, the generation or a decoder of its reader")
        if not self.generation.start or self.generation.longest < 1 or self.generation.beams < 1:
            raise Damaged(f"{MANIFEST} has a generation without start, length or beams")


def read_graph(folder: Path, graph: Graph) -> bytes:
    """The bytes of a graph, checked against its hash; Damaged names the file."""
    data = _read(folder / graph.file)
    if hashlib.sha256(data).hexdigest() != graph.sha256:
        raise Damaged(f"{folder / graph.file} does not match its hash in {MANIFEST}")
    if _EXTERNAL_WEIGHTS in data:
        raise Damaged(f"{folder / graph.file} keeps weights in other files; a graph must hold its own")
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as e:
        raise Damaged(f"{path} is missing from the bundle") from e


def bundle_id(folder: Path) -> str:
    """The id of a bundle: the sha256 of its bundle.json, which holds the hash of all the rest."""
    return hashlib.sha256(_read(folder / MANIFEST)).hexdigest()


def put(folder: Path, blobs: Blobs) -> str:
    """Keep a bundle among the blobs; returns its id. The manifest goes last: an id is whole."""
    for file in Manifest.load(folder).files():
        blobs.put(read_graph(folder, file))
    return blobs.put(_read(folder / MANIFEST))


def fetch(bundle: str, blobs: Blobs, cache: Path) -> Path:
    """The folder of a kept bundle, fetched into `cache` if it is not there whole already.

    Two processes may fetch the same bundle at once. Every file is checked against its hash.
    """
    folder = cache / bundle
    if _is_whole(folder, bundle):
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache, ignore_cleanup_errors=True) as beside:
        _write(Path(beside) / "bundle", bundle, blobs)
        _move(Path(beside), folder, bundle)
    return folder


def _write(folder: Path, bundle: str, blobs: Blobs) -> None:
    folder.mkdir()
    content = blobs.get(bundle)
    for file in Manifest.from_json(content).files():
        (folder / file.file).write_bytes(blobs.get(file.sha256))
    (folder / MANIFEST).write_bytes(content)


def _move(beside: Path, folder: Path, bundle: str) -> None:
    """Rename into place; where another process was quicker its copy is as good, if it is whole."""
    try:
        os.rename(beside / "bundle", folder)
    except OSError:
        if _is_whole(folder, bundle):
            return
        os.rename(folder, beside / "damaged")
        os.rename(beside / "bundle", folder)


def _is_whole(folder: Path, bundle: str) -> bool:
    try:
        Manifest.load(folder)
        return bundle_id(folder) == bundle
    except Damaged:
        return False


class Reader(Protocol):
    """What reads an image with a bundle, whatever its decoder; safe to call from many threads."""

    manifest: Manifest
    precision: Precision
    device: str

    def read(self, line: Pixels) -> LineText:
        """The text of one image (H x W x 3, uint8 RGB); the answer depends on this image alone."""

    def warm(self) -> None:
        """Be as quick at the first image as at all others."""


def open_reader(
    folder: Path, precision: Precision | None = None, device: str = "cpu", threads: int = 1
) -> Reader:
    """The reader of a bundle, by its decoder."""
    if Manifest.load(folder).decoder == "ctc":
        return LineReader(folder, precision, device, threads)
    from redpencil.generate import TextReader  # here, since what only reads lines needs no tokenizers

    return TextReader(folder, precision, device, threads)


def precision_for(manifest: Manifest, precision: Precision | None, device: str) -> Precision:
    """The precision asked for, else the bundle's own (on `cuda` FP32: INT8 is made for CPUs)."""
    chosen = precision or (Precision.FP32 if device == "cuda" else manifest.precision)
    if chosen not in manifest.graphs:
        raise NotFound(f"this bundle has no {chosen} graph")
    return chosen


class LineReader:
    """Reads single lines with one graph of a bundle; safe to call from many threads.

    The graph has one input "image" float32 [B, C, H, W] (B and W free), and two outputs, each [B, T]:
    "indices" int64, the best class per step, and "probabilities" float32, its softmax probability.
    `threads` is what one reading may use. On `cuda` the FP32 graph is the default: the INT8 one
    is made for CPUs. Where CUDA cannot be had this raises; it never falls back to the CPU.
    """

    def __init__(
        self, folder: Path, precision: Precision | None = None, device: str = "cpu", threads: int = 1
    ) -> None:
        self.manifest = Manifest.load(folder)
        self.device = device
        self.precision = precision_for(self.manifest, precision, device)
        graph = self.manifest.graphs[self.precision]
        self._session = load_session(folder, graph, device, threads)
        _check_shape(self._session, folder / graph.file)

    def read(self, line: Pixels) -> LineText:
        """Read one line image (H x W x 3, uint8 RGB); the answer depends on this image alone."""
        indices, probabilities = self.infer(self.tensor(line)[None])
        return self.text(indices[0], probabilities[0])

    def tensor(self, line: Pixels) -> NDArray[np.float32]:
        """The line as this bundle's graphs want it, [C, H, W]."""
        return to_tensor(line, self.manifest.preprocessing)

    def infer(self, images: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Run the graph on [B, C, H, W]: the best class per step and its probability, each [B, T]."""
        indices, probabilities = self._session.run(["indices", "probabilities"], {"image": images})
        return indices, probabilities

    def text(self, indices: NDArray[np.int64], probabilities: NDArray[np.float32]) -> LineText:
        """What one row of `infer` says, as text."""
        return ctc_greedy(indices, probabilities, self.manifest.alphabet)

    def warm(self) -> None:
        """Run lines of several widths, so that the first real one is as quick as the rest."""
        height = self.manifest.preprocessing.height
        for width in (2, 8, 20):
            self.read(np.full((height, width * height, 3), 255, np.uint8))


def read_parallel(reader: LineReader, lines: Sequence[Pixels], workers: int) -> list[LineText]:
    """Read each line alone, `workers` at a time; the same answers, in order, as one by one."""
    with ThreadPoolExecutor(max(1, min(workers, len(lines)))) as pool:
        return list(pool.map(reader.read, lines))


def load_session(folder: Path, graph: Graph, device: str, threads: int) -> Any:
    """An ONNX Runtime session of a bundle's graph, its hash checked; never another device than asked."""
    if device == "cuda":
        onnxruntime.preload_dlls(directory="")
    data = read_graph(folder, graph)
    try:
        session = onnxruntime.InferenceSession(data, session_options(threads), providers=_providers(device))
    except Exception as e:  # ONNX Runtime's errors share no base of their own
        raise Damaged(f"ONNX Runtime cannot load {folder / graph.file}: {e}") from e
    if session.get_providers()[0] != _providers(device)[0]:
        raise NotReady(
            "ONNX Runtime has no CUDA here; run on the CPU (device cpu) or repair its CUDA libraries"
        )
    return session


def session_options(threads: int) -> Any:
    """How a graph with free widths runs here, on so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # lines have any width; a plan per width would only pile up
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Waiting threads must sleep: beside them other replicas and training want the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _providers(device: str) -> list[Any]:
    # With free widths, trying every cuDNN algorithm per shape would cost seconds per new width.
    cuda = ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"})
    return [cuda, "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]


def _check_shape(session: Any, path: Path) -> None:
    inputs = [i.name for i in session.get_inputs()]
    outputs = {o.name for o in session.get_outputs()}
    if inputs != ["image"] or not outputs >= {"indices", "probabilities"}:
        raise Damaged(f"{path} is not a line reader: it maps {inputs} to {sorted(outputs)}")
