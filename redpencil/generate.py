"""Reads an image with a decoder that writes token after token, each from those before it.

The encoder runs once per image. The decoder gets the tokens that are new and what it kept of the
old ones (keys and values), so no token is computed twice. Images that several threads ask for share
its runs: a newcomer joins at the next step, whoever has finished is answered and frees its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from redpencil.bundle import Generation, Graph, Manifest, read_graph
from redpencil.company import Company
from redpencil.errors import Damaged
from redpencil.pixels import Pixels
from redpencil.session import OnnxReader
from redpencil.text import one_line
from redpencil.types import LineText, Precision
from redpencil.writing import Steps, Tensors, Writing, Written, generate, step

__all__ = ["MEMORY", "MOST", "NEW", "PAST", "Decoder", "Steps", "Tensors", "TextReader", "generate"]

MEMORY, PAST, NEW = "memory.", "past.", "new."
MOST = 16  # images that are decoded together


class TextReader(OnnxReader):
    """Writes the text of images with the two graphs of an autoregressive bundle; thread-safe.

    The encoder maps "image" float32 [B,C,H,W] to "memory.*" [B,...]. The decoder takes "tokens" int64
    [B,S], "length" int64 [B] (valid past positions), the memory, and "past.*" float32 [B,h,T,d]; it
    gives "logits" float32 [B,V] behind the last token, and "new.*" [B,h,S,d] to be kept as past.
    """

    def open(self) -> None:
        self.tokenizer = _tokenizer(self.folder, self.manifest)
        assert self.manifest.generation is not None  # as Manifest.load has checked
        self.generation: Generation = self.manifest.generation
        encoder, decoder = self.manifest.graphs[self.precision], self.manifest.decoders[self.precision]
        self._encoder = self.session(encoder)
        self._decoder = Decoder(self.session(decoder), self.folder / decoder.file)
        shared = MOST if self.precision is Precision.FP32 else 1
        cores = 1 if self.device == "cuda" else self.cores
        self._company = Company[Writing](partial(step, self._decoder), shared, cores)

    def read(self, line: Pixels) -> LineText:
        """Write the text of one image (H x W x 3, uint8 RGB).

        What several threads ask for at once is decoded together where that changes nothing but rounding.
        Dynamic INT8 has one scale for all that is multiplied at once, and no answer depends on other images.
        """
        return self.text(*self.go_on(self.look(self.tensor(line)[None])))

    def write(self, images: NDArray[np.float32]) -> list[Written]:
        """For each of [B, C, H, W] the tokens written, without the end, and their probabilities."""
        return generate(self._decoder, self.look(images), self.generation)

    def look(self, images: NDArray[np.float32]) -> Tensors:
        """The memory of [B, C, H, W]."""
        names = [o.name for o in self._encoder.get_outputs()]
        with nullcontext() if self.device == "cuda" else self._company.core():
            return dict(zip(names, self._encoder.run(names, {"image": images}), strict=True))

    def go_on(self, memory: Tensors) -> Written:
        """What is written of one image that was looked at."""
        one = Writing(self._decoder, memory, self.generation)
        self._company.finish(one)
        return one.best()

    def text(self, tokens: Sequence[int], sure: Sequence[float]) -> LineText:
        """Tokens as text; every character is as sure as the token that wrote it."""
        text, spans = one_line(self.tokenizer.decode(list(tokens))), _lengths(self.tokenizer, tokens)
        each = [round(p, 5) for p, n in zip(sure, spans, strict=True) for _ in range(n)]
        mean = round(float(np.mean(sure)), 5) if len(sure) else 0.0
        clean = text.strip()
        lead = len(text) - len(text.lstrip())
        each = (each + [mean] * len(text))[lead : lead + len(clean)]
        return LineText(clean, mean if clean else 0.0, tuple(each))

    def warm(self) -> None:
        p = self.manifest.preprocessing
        self.read(np.full((p.height, p.width or 4 * p.height, 3), 127, np.uint8))


class Decoder:
    """The decoder's graph: runs it, and knows the shapes of what it keeps."""

    def __init__(self, session: Any, path: Path) -> None:
        self._session = session
        shapes = {i.name: i.shape for i in session.get_inputs()}
        self.past: Mapping[str, tuple[int, int]] = {
            n.removeprefix(PAST): (s[1], s[3]) for n, s in shapes.items() if n.startswith(PAST)
        }
        self.memory = sorted(n for n in shapes if n.startswith(MEMORY))
        self._outputs = ["logits", *(NEW + name for name in self.past)]
        given = {o.name for o in session.get_outputs()}
        if not {"tokens", "length"} <= set(shapes) or not given.issuperset(self._outputs) or not self.past:
            raise Damaged(f"{path} is not a decoder: it maps {sorted(shapes)} to {sorted(given)}")

    def run(
        self, tokens: NDArray[np.int64], lengths: NDArray[np.int64], memory: Tensors, past: Tensors
    ) -> tuple[NDArray[np.float32], Tensors]:
        """Logits [B,V] behind the last of the tokens [B,S], and the keys and values of these."""
        inputs = {"tokens": tokens, "length": lengths} | {n: memory[n] for n in self.memory}
        inputs |= {PAST + name: value for name, value in past.items()}
        logits, *new = self._session.run(self._outputs, inputs)
        return logits, dict(zip(self.past, new, strict=True))


def _lengths(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[int]:
    """How many characters each token adds to the text."""
    ends = [len(tokenizer.decode(list(tokens[: i + 1]))) for i in range(len(tokens))]
    return [max(0, end - begin) for begin, end in zip([0, *ends], ends, strict=False)]


def _tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    file = manifest.tokenizer
    assert isinstance(file, Graph)  # as Manifest.load has checked
    try:
        return Tokenizer.from_str(read_graph(folder, file).decode("utf-8"))
    except Exception as e:  # the library's errors share no base of their own
        raise Damaged(f"{folder / file.file} is not a tokenizer: {e}") from e
