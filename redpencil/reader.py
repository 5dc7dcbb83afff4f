"""What reads an image with a bundle: the same for the gate that judges and the service that answers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from redpencil.bundle import Manifest
from redpencil.ctc_beam import ctc
from redpencil.errors import Damaged
from redpencil.language import Language
from redpencil.pixels import Pixels
from redpencil.scripts import stacked
from redpencil.session import OnnxReader
from redpencil.straight import straightened
from redpencil.text import in_capitals
from redpencil.types import LineText, Precision

OUTPUTS = ("indices", "probabilities", "own")
"""Of a line reader's graph (see `LineReader`)."""
IN_CAPITALS = 2
"""What `own` says of a line that is written in capitals whatever is printed."""
SURE = 0.8
"""A reading that is less is worth another look."""


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
    folder: Path, precision: Precision | None = None, device: str = "cpu", vlm: str = "", cores: int = 0
) -> Reader:
    """The reader of a bundle, by its decoder; `vlm` is the URL of the server that runs adapted models.

    Threads that share a decoder's runs compute on so many `cores` at once; 0: on all.
    """
    manifest = Manifest.load(folder)
    if manifest.decoder == "vlm":
        from redpencil.vlm import VlmReader

        return VlmReader(folder, vlm, manifest)
    if manifest.decoder == "ctc":
        return LineReader(folder, precision, device, manifest=manifest)
    from redpencil import generate, twofold  # here, since what only reads lines needs no tokenizers

    kind = twofold.TwofoldReader if manifest.before else generate.TextReader
    return kind(folder, precision, device, manifest=manifest, cores=cores)


class LineReader(OnnxReader):
    """Reads single lines with one graph of a bundle; safe to call from many threads.

    The graph has one input "image" float32 [B, C, H, W] (B and W free), and two outputs, each [B, T]:
    "indices" int64, the best class per step, and "probabilities" float32, its softmax probability. In a
    bundle with a language or words they are [B, T, K], the likeliest classes per step with the best first.
    A third one, "own" int64 [B], says of which lines the language is, where it is not of all: 0 not of this
    one, 1 of it, IN_CAPITALS of it, and it is written in capitals. Older bundles have it as bool.
    """

    def open(self) -> None:
        graph = self.manifest.graphs[self.precision]
        self._session = self.session(graph)
        self._language = Language.of_bundle(self.folder, self.manifest)
        self._outputs = _outputs(self._session, self.folder / graph.file)

    def read(self, line: Pixels) -> LineText:
        """Read one line image (H x W x 3, uint8 RGB); the answer depends on this image alone.

        A line that is hardly read is read again straightened, and the surer reading counts (see `doubtful`).
        """
        return self.surer(line, self._read(line))

    def surer(self, line: Pixels, first: LineText) -> LineText:
        """A reading, or that of the line straightened, where the first is unsure and the other is surer."""
        if not doubtful(first) or (level := straightened(line)) is line:
            return first
        again = self._read(level)
        return again if again.confidence > first.confidence else first

    def _read(self, line: Pixels) -> LineText:
        indices, probabilities, own = self.infer(self.tensor(line)[None])
        return self.text(indices[0], probabilities[0], own[0])

    def infer(
        self, images: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Run the graph on [B, C, H, W]: classes per step and their probabilities, [B, T] or [B, T, K], and
        of which lines the language is, [B]."""
        indices, probabilities, *own = self._session.run(self._outputs, {"image": images})
        return indices, probabilities, own[0] if own else np.ones(len(images), np.int64)

    def text(
        self, indices: NDArray[np.int64], probabilities: NDArray[np.float32], own: int | np.int64 = 1
    ) -> LineText:
        """What one row of `infer` says, as text."""
        language = self._language and self._language.of_line(bool(own))
        return as_written(ctc(indices, probabilities, self.manifest.alphabet, language), int(own))

    def warm(self) -> None:
        """Run lines of several widths, so that the first real one is as quick as the rest."""
        if self._language:
            self._language.warm()
        height = self.manifest.preprocessing.height
        for width in (2, 8, 20):
            self.read(np.full((height, width * height, 3), 255, np.uint8))


def as_written(read: LineText, own: int) -> LineText:
    """What was read as a graph says, by its `own`, that texts of this kind are written."""
    return replace(read, text=in_capitals(read.text)) if own == IN_CAPITALS else read


def doubtful(first: LineText) -> bool:
    """Whether a line had better be looked at again, straightened.

    Not where letters carry marks: what finds the letters of a line would cut these off.
    """
    return first.confidence < SURE and not stacked(first.text)


def read_parallel(reader: Reader, lines: Sequence[Pixels], workers: int) -> list[LineText]:
    """Read each line alone, `workers` at a time; the same answers, in order, as one by one."""
    with ThreadPoolExecutor(max(1, min(workers, len(lines)))) as pool:
        return list(pool.map(reader.read, lines))


def _outputs(session: Any, path: Path) -> list[str]:
    """Those of a line reader's outputs that a graph has, in their order."""
    inputs, given = ([end.name for end in ends] for ends in (session.get_inputs(), session.get_outputs()))
    if inputs != ["image"] or not {"indices", "probabilities"} <= set(given):
        raise Damaged(f"{path} is not a line reader: it maps {inputs} to {sorted(given)}")
    return [name for name in OUTPUTS if name in given]
