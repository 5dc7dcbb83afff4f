"""The border between training and serving: a folder with bundle.json and its ONNX graphs, or its adapters.

A bundle is data alone: JSON, ONNX and safetensors, no pickle, no code. Nothing in it is used before its hash
has been checked.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redpencil.errors import BadInput, Damaged
from redpencil.pixels import Preprocessing
from redpencil.types import Precision

if TYPE_CHECKING:
    from redpencil.blobs import Blobs

MANIFEST = "bundle.json"
FORMAT_VERSION = 1
LATER = ("familiar", "before", "language", "words", "own_words", "adapters")
"""Fields that came later; they are written only where there is something to say."""
SINGLE = ("tokenizer", "familiar", "language", "words", "own_words")
"""Fields that name one file."""
DECODERS = ("ctc", "autoregressive", "vlm")
# How protobuf spells the key under which a graph names a file of weights outside itself.
_EXTERNAL_WEIGHTS = b"\n\x08location\x12"


@dataclass(frozen=True)
class Graph:
    """One file of a bundle: an ONNX graph, a tokenizer, or adapters.

    What a graph takes and gives depends on the decoder: see `reader.LineReader` and `generate.TextReader`.
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
class Adapters:
    """Low-rank adapters of a vision-language model that a server of its own runs (`redpencil.vlm`).

    `base` is that model's name on the hub, or its folder. The bundle's "graph" holds the weights and `config`
    says where they belong, both as peft writes them; the image is asked about by `system` and `prompt`.
    """

    base: str
    rank: int
    system: str
    prompt: str
    longest: int
    config: Graph


@dataclass(frozen=True)
class Manifest:
    """What bundle.json says: how to prepare an image, run the graphs and read what they answer.

    `alphabet` is a CTC reader's, and so are `language`, of the texts that it has learned, `words` and
    `own_words`, all of redpencil/language.py; `decoders`, `tokenizer` and `generation` are an
    autoregressive one's, whose `graphs` are its encoders; `adapters` are of the decoder "vlm", and FP32 is
    then what its server computes in. Its folder may hold the reader that it went on from as well: then the
    graph `familiar` says which images are its own, and `before` reads the others.
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
    familiar: Graph | None = None
    before: Manifest | None = None
    language: Graph | None = None
    words: Graph | None = None
    own_words: Graph | None = None
    adapters: Adapters | None = None

    def files(self) -> list[Graph]:
        """Every file of the bundle beside its manifest."""
        single = [file for name in SINGLE if (file := getattr(self, name))]
        others = self.before.files() if self.before else []
        others += [self.adapters.config] if self.adapters else []
        return [*self.graphs.values(), *self.decoders.values(), *single, *others]

    def to_json(self) -> bytes:
        """Canonical JSON: the same manifest always gives the same bytes."""
        text = json.dumps(self._content(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return text.encode("utf-8")

    def _content(self) -> dict[str, Any]:
        content = asdict(self) | {
            "preprocessing": self.preprocessing.to_dict(),
            "graphs": {p.value: asdict(g) for p, g in self.graphs.items()},
            "decoders": {p.value: asdict(g) for p, g in self.decoders.items()},
            "before": self.before and self.before._content(),
        }
        return {k: v for k, v in content.items() if v is not None or k not in LATER}

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        try:
            manifest = cls._of(json.loads(data))
        except (ValueError, KeyError, TypeError, AttributeError, BadInput) as e:
            raise Damaged(f"{MANIFEST} is not a bundle's manifest: {e!r}") from e
        manifest._check()
        return manifest

    @classmethod
    def _of(cls, content: dict[str, Any]) -> Manifest:
        content["preprocessing"] = Preprocessing.from_dict(content["preprocessing"])
        content["alphabet"] = tuple(content["alphabet"])
        for kind in ("graphs", "decoders"):
            content[kind] = {Precision(p): Graph(**g) for p, g in content.get(kind, {}).items()}
        content["precision"] = Precision(content["precision"])
        for kind in SINGLE:
            content[kind] = Graph(**content[kind]) if content.get(kind) else None
        if generation := content.get("generation"):
            content["generation"] = Generation(**generation | {"start": tuple(generation["start"])})
        if adapters := content.get("adapters"):
            content["adapters"] = Adapters(**adapters | {"config": Graph(**adapters["config"])})
        content["before"] = cls._of(content["before"]) if content.get("before") else None
        return cls(**content)

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
        self._check_decoder()
        if (self.familiar is None) != (self.before is None):
            raise Damaged(f"{MANIFEST} names a reader before this one and not when it reads, or the reverse")
        if self.before:
            self.before._check()
        if not all(isinstance(c, str) and c for c in self.alphabet):
            raise Damaged(f"{MANIFEST} has an empty or odd entry in its alphabet")
        if self.precision not in self.graphs:
            raise Damaged(f"{MANIFEST} is to be served as {self.precision} but has no such graph")
        for graph in self.files():
            if Path(graph.file).name != graph.file or graph.file in ("", ".", "..", MANIFEST):
                raise Damaged(f"{MANIFEST} names a file outside its folder: {graph.file!r}")

    def _check_decoder(self) -> None:
        if self.decoder not in DECODERS:
            raise Damaged(f"decoder {self.decoder!r} is unknown here; known: {', '.join(DECODERS)}")
        if self.decoder == "autoregressive":
            self._check_generation()
        elif self.before:
            raise Damaged(f"{MANIFEST} names a reader before this one, which is for decoder autoregressive")
        if (self.decoder == "vlm") != (self.adapters is not None):
            raise Damaged(f"{MANIFEST} has adapters and not the decoder vlm, or the reverse")
        if self.adapters and self.preprocessing.width is None:
            raise Damaged(f"{MANIFEST} has adapters and no canvas: its preprocessing lacks a width")

    def _check_generation(self) -> None:
        if self.language or self.words or self.own_words:
            raise Damaged(f"{MANIFEST} names a language, which an autoregressive decoder does not use")
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

    Two processes may fetch the same bundle at once. Every file is checked against its hash. For a
    week from now on it is not pruned (redpencil/prune.py), so what is read of it is read until then.
    """
    folder = cache / bundle
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache):
        if folder.exists():
            os.utime(folder)
    if _is_whole(folder, bundle):
        return folder
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache, ignore_cleanup_errors=True) as beside:
        _write(Path(beside) / "bundle", bundle, blobs)
        _move(Path(beside), folder, bundle)
    return folder


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Of all processes one at a time says here that a fetched bundle is in use, or takes away what is not."""
    folder = os.open(cache, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


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
