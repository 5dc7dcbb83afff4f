"""What the corrected texts are like, so that a reader in doubt can prefer what fits them.

An n-gram model over characters with the smoothing of Witten and Bell (IEEE Trans. Inf. Theory 37, 1991),
counted in corrections: no dictionary, no language to name, a new script like any other. Case is
left to the picture: a set whose labels are all capitals has nothing to say about others.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log
from pathlib import Path
from typing import Self

from redpencil.bundle import Graph, read_graph
from redpencil.errors import Damaged

FILE = "language.json"
EDGE = "\n"
"""Stands before and behind every text."""
ORDER = 6
"""Characters that are counted together: one and the five before it."""
WEIGHT, HALF = 0.4, 500
"""What a text weighs beside its picture in the end, and after how many characters half of that."""
UNHEARD = 1 / 4096
"""Of a character that no text has."""
MOST = 100_000
"""Pieces that are kept; of more, those that occur most often."""
ASKED = 5_000
"""Pieces that tell what a character costs on average, at most."""


@dataclass(frozen=True, slots=True)
class _Less:
    """What is not counted: of pieces, of all behind a history, and of different ones behind it."""

    counts: Counter[str]
    often: Counter[str]
    different: Counter[str]


class Language:
    """How well a text goes on; it knows the pieces of texts that `pieces` counts.

    A piece is a character with those before it, ORDER together and fewer only at a text's beginning,
    so that every place of the texts is counted once. Safe to use from many threads.
    """

    def __init__(self, pieces: Mapping[str, int]) -> None:
        self.pieces = pieces
        self._known: dict[tuple[str, str], float] = {}

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        return cls({}).told(texts)

    def told(self, texts: Iterable[str]) -> Self:
        """The same with the pieces of more texts."""
        counts = Counter(self.pieces)
        for text in texts:
            counts.update(pieces_of(text))
        often = sorted(counts.items(), key=lambda piece: (-piece[1], piece[0]))
        return type(self)(dict(often[:MOST]))

    def knows(self, text: str) -> bool:
        """Whether it has been told every piece of a text."""
        return all(piece in self.pieces for piece in pieces_of(text))

    @classmethod
    def load(cls, folder: Path, file: Graph) -> Self:
        """The one in a bundle's folder; Damaged where the file is not what the manifest says."""
        try:
            pieces = json.loads(read_graph(folder, file))["pieces"]
            if not all(isinstance(n, int) and n > 0 and 1 < len(p) <= ORDER for p, n in pieces.items()):
                raise ValueError("a piece or its count makes no sense")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{folder / file.file} is no language of a reader: {error}") from error
        return cls(pieces)

    def save(self, folder: Path) -> Graph:
        """Write it beside a bundle's graphs; the same pieces always give the same bytes."""
        content = json.dumps({"pieces": self.pieces}, ensure_ascii=False, sort_keys=True, indent=0)
        (folder / FILE).write_text(content, encoding="utf-8")
        return Graph.of(folder / FILE)

    @cached_property
    def characters(self) -> int:
        """How many were counted."""
        return sum(self.pieces.values())

    @cached_property
    def weight(self) -> float:
        """What its opinion counts beside the picture's: little while it has seen little."""
        return WEIGHT * self.characters / (self.characters + HALF)

    def gain(self, before: str, text: str) -> float:
        """What `text` after `before` adds to a reading's log probability.

        Positive where it is likelier than the texts' own characters are on average, so that this neither
        lengthens nor shortens what is read.
        """
        total = 0.0
        for character in text:
            total += self._gain(before[1 - ORDER :], character)
            before += character
        return total

    def _gain(self, before: str, character: str) -> float:
        found = self._known.get((before, character))
        if found is None:
            if len(self._known) >= MOST:
                self._known.clear()
            likely = self.probability(fold(before), fold(character))
            found = self._known[before, character] = self.weight * (log(likely) + self._surprise)
        return found

    def cost(self, text: str, own: str | None = None) -> float:
        """Nats that it takes to say a text, as if `own`, which it has been told, had not been."""
        less = self._less(pieces_of(own)) if own is not None else None
        return sum(-log(self.probability(p[:-1], p[-1], less)) for p in pieces_of(text))

    def probability(self, before: str, character: str, less: _Less | None = None) -> float:
        """Of a folded character after such a text, with less counted than there is."""
        found = UNHEARD
        for start in range(len(before), max(-1, len(before) - ORDER), -1):
            history = before[start:]
            often, different = self._after.get(history, (0, 0))
            here = self._counts.get(history + character, 0)
            if less:
                often, different = often - less.often[history], different - less.different[history]
                here -= less.counts[history + character]
            if not often:
                break
            found = (here + different * found) / (often + different)
        return found

    def _less(self, pieces: Iterable[str]) -> _Less:
        """One copy of these, of every length."""
        counts = Counter(piece[start:] for piece in pieces for start in range(len(piece)))
        often, different = Counter[str](), Counter[str]()
        for piece, n in counts.items():
            often[piece[:-1]] += n
            different[piece[:-1]] += self._counts[piece] == n
        return _Less(counts, often, different)

    @cached_property
    def _counts(self) -> Counter[str]:
        """Of pieces of every length."""
        counts: Counter[str] = Counter()
        for piece, often in self.pieces.items():
            for start in range(len(piece)):
                counts[piece[start:]] += often
        return counts

    @cached_property
    def _after(self) -> dict[str, tuple[int, int]]:
        """How many characters were counted behind a history, and how many different ones."""
        after: dict[str, tuple[int, int]] = {}
        for piece, often in self._counts.items():
            so_far, different = after.get(piece[:-1], (0, 0))
            after[piece[:-1]] = so_far + often, different + 1
        return after

    @cached_property
    def _surprise(self) -> float:
        """Nats of a character of the texts on average, each left out of the counts while it is asked for."""
        asked = sorted(self.pieces)[:: 1 + len(self.pieces) // ASKED]
        nats = (-log(self.probability(p[:-1], p[-1], self._less([p]))) for p in asked)
        often = [self.pieces[piece] for piece in asked]
        return sum(n * cost for n, cost in zip(often, nats, strict=True)) / max(1, sum(often))


def pieces_of(text: str) -> list[str]:
    """For every character of a text, and its end, the longest piece that ends there."""
    whole = f"{EDGE}{fold(text)}{EDGE}"
    return [whole[max(0, i - ORDER + 1) : i + 1] for i in range(1, len(whole))]


def fold(text: str) -> str:
    """Without case, and as long as before."""
    if len(low := text.lower()) == len(text):
        return low
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)
