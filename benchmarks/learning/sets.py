"""Line sets as a team would meet them: documents arrive one by one; others are never trained on.

A set is a folder with `lines.tsv` (file, document, text) and the images it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from redpencil import linepack, samples
from redpencil.errors import BadInput
from redpencil.metrics import cer, distance, grapheme_cer
from redpencil.reader import doubtful
from redpencil.snapshot import side_of
from redpencil.straight import straightened
from redpencil.types import Split
from training import data
from training.crops import Line
from training.frozen import Frozen
from training.recipe import LineModel

UPPER = ("sroie_receipts",)  # its labels are in capitals, whatever the picture shows
GOLDEN = "golden"


def arriving(folder: Path, count: int, seed: int) -> list[Line]:
    """The first `count` lines of the train side, whole documents in an order drawn by seed."""
    return _drawn(folder, Split.TRAIN, count, seed)


def unseen_lines(folder: Path, count: int) -> list[Line]:
    """At most `count` lines of documents of the holdout side; always the same ones."""
    return _drawn(folder, Split.HOLDOUT, count, seed=1)


def _drawn(folder: Path, side: Split, count: int, seed: int) -> list[Line]:
    documents: dict[str, list[list[str]]] = {}
    for file, document, text in rows_of(folder):
        documents.setdefault(document, []).append([file, document, text])
    chosen = _on(documents, side)
    order = np.random.default_rng(seed).permutation(sorted(chosen))
    rows = [row for document in order for row in chosen[str(document)]]
    return [line_of(folder, *row) for row in rows[:count]]


def names(root: Path) -> list[str]:
    """The sets in a folder."""
    return sorted(file.parent.name for file in root.glob("*/lines.tsv"))


def rows_of(folder: Path) -> list[tuple[str, str, str]]:
    """File, document and text of every line of a set; BadInput names the line where something is missing."""
    found = []
    for number, row in enumerate(samples.rows(folder / "lines.tsv")[1:], 2):
        file, document, text = (*row.split("\t", 2), "", "")[:3]
        if not (file and document):
            wanted = "file, document and text are wanted, with tabs between"
            raise BadInput(f"{folder / 'lines.tsv'}, line {number}: {wanted}")
        found.append((file, document, text))
    return found


def _on(documents: dict[str, list[list[str]]], side: Split) -> dict[str, list[list[str]]]:
    """The documents of one side. Of a few that all stand on one side the first by name changes to the other;
    where there is one alone its last fifth is held out, which flatters what learned the rest."""
    if len(documents) == 1:
        ((document, rows),) = documents.items()
        cut = max(1, len(rows) * 4 // 5)
        return {document: rows[:cut] if side is Split.TRAIN else rows[cut:]}
    sides = {document: side_of(document) for document in documents}
    if len(set(sides.values())) == 1:
        first = min(sides)
        sides[first] = Split.HOLDOUT if sides[first] is Split.TRAIN else Split.TRAIN
    return {document: rows for document, rows in documents.items() if sides[document] is side}


def line_of(folder: Path, file: str, document: str, text: str) -> Line:
    image = cv2.imread(str(folder / file), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise FileNotFoundError(f"{folder / file}, which {folder / 'lines.tsv'} names, is no image")
    return Line(image.astype(np.uint8), text, file, document)


@dataclass(frozen=True)
class Unseen:
    """Lines that nobody trains on, with their features, and those of the ones that can be straightened."""

    name: str
    lines: list[Line]
    features: list[Tensor]
    level: dict[int, Tensor]

    @classmethod
    def of(cls, name: str, lines: Sequence[Line], model: LineModel) -> Unseen:
        frozen = Frozen(model)
        level = {i: straightened(line.image) for i, line in enumerate(lines)}
        level = {i: image for i, image in level.items() if image is not lines[i].image}
        again = dict(zip(level, frozen.map(lambda i: level[i], level), strict=True))
        return cls(name, list(lines), frozen.map(lambda line: line.image, lines), again)

    def read(self, model: LineModel, once: bool = False) -> list[str]:
        """As `LineReader.read` reads, or without another look at lines that are hardly read."""
        found = data.read(model, self.features)
        unsure = [i for i in self.level if not once and doubtful(found[i])]
        for i, again in zip(unsure, data.read(model, [self.level[i] for i in unsure]), strict=True):
            if again.confidence > found[i].confidence:
                found[i] = again
        return [reading.text for reading in found]

    def cer(self, texts: Sequence[str]) -> float:
        return cer(self._pairs(texts))

    def grapheme_cer(self, texts: Sequence[str]) -> float:
        return grapheme_cer(self._pairs(texts))

    def right(self, texts: Sequence[str]) -> list[bool]:
        """Which lines are read without a fault."""
        return [distance(*pair) == 0 for pair in self._pairs(texts)]

    def _pairs(self, texts: Sequence[str]) -> list[tuple[str, str]]:
        pairs = [(line.text, text) for line, text in zip(self.lines, texts, strict=True)]
        return [(a.upper(), b.upper()) for a, b in pairs] if self.name in UPPER else pairs


def unseen(root: Path, names: Sequence[str], count: int, model: LineModel) -> list[Unseen]:
    """The unseen documents of every set, and the golden pack."""
    found = [Unseen.of(name, unseen_lines(root / name, count), model) for name in names]
    golden = [Line(line.image, line.text) for line in linepack.load("golden")]
    return [*found, Unseen.of(GOLDEN, golden, model)]
