"""What texts are like, so that a reader in doubt can prefer what fits: corrected ones, and words at large.

The pieces of corrected texts are counted as they are: no language to name, a new script like any other.
Case is left to the picture: a set whose labels are all capitals has nothing to say about others.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from math import log
from pathlib import Path
from typing import Self
from zlib import crc32

from redpencil import ngram
from redpencil.bundle import Graph, Manifest, read_graph
from redpencil.direction import as_drawn
from redpencil.errors import Damaged
from redpencil.ngram import ORDER, NGram, fold
from redpencil.scripts import clash
from redpencil.words import Words

FILE = "language.json"
EDGE = "\n"
"""Stands before and behind every text."""
WEIGHT, HALF = 0.4, 500
"""What a text weighs beside its picture in the end, and after how many characters half of that."""
MIXED = 3.0
"""Nats that a word of two writings has to be likelier than others by its picture."""
MOST = 100_000
"""Pieces that are kept; of more, those that occur most often."""


class Language:
    """How well a text goes on, by the `pieces` of texts (see `NGram`), and by words where it has any.

    `words` are of any language; `own_words`, of those that its texts are in, stand in for them in lines
    that are like the texts. Safe to use from many threads.
    """

    def __init__(
        self, pieces: Mapping[str, int], words: Words | None = None, own_words: Words | None = None
    ) -> None:
        self.pieces, self.words, self.own_words = pieces, words, own_words
        self._heeded = own_words or words
        self._texts = NGram(pieces)
        self._known: dict[tuple[str, str], float] = {}

    @classmethod
    def of(cls, texts: Iterable[str], words: Words | None = None) -> Self:
        return cls({}, words).told(texts)

    def told(self, texts: Iterable[str]) -> Self:
        """The same with the pieces of more texts; of too many, the new ones stay rather than the old."""
        new = Counter(piece for text in texts for piece in pieces_of(text))
        counts = Counter(self.pieces)
        counts.update(new)
        if len(counts) > MOST:  # of equally frequent ones no script comes first
            ranked = sorted(
                counts, key=lambda piece: (-counts[piece], piece not in new, crc32(piece.encode()))
            )
            counts = Counter({piece: counts[piece] for piece in ranked[:MOST]})
        return type(self)(counts, self.words, self.own_words)

    def knows(self, text: str) -> bool:
        """Whether it has been told a text: every piece of it, or most where it could not keep all."""
        pieces = pieces_of(text)
        known = sum(piece in self.pieces for piece in pieces)
        return known == len(pieces) or (len(self.pieces) >= MOST and 2 * known > len(pieces))

    @classmethod
    def of_bundle(cls, folder: Path, manifest: Manifest) -> Self | None:
        """The one of a bundle, if it has any; Damaged where a file is not what the manifest says."""
        if not (manifest.language or manifest.words):
            return None
        pieces = _pieces(folder, manifest.language) if manifest.language else {}
        words, own_words = (
            Words.load(folder, file) if file else None for file in (manifest.words, manifest.own_words)
        )
        return cls(pieces, words, own_words)

    def save(self, folder: Path) -> Graph:
        """Write the pieces beside a bundle's graphs; the same always give the same bytes."""
        content = json.dumps({"pieces": self.pieces}, ensure_ascii=False, sort_keys=True, indent=0)
        (folder / FILE).write_text(content, encoding="utf-8")
        return Graph.of(folder / FILE)

    def of_line(self, own: bool) -> Language | None:
        """What has a say in a line: all in one like the texts (`own`), in others the words alone."""
        return self if own else self._untold

    @cached_property
    def _untold(self) -> Language | None:
        return Language({}, self.words) if self.words else None

    def warm(self) -> None:
        """Count now what would be counted at the first doubt; takes a second."""
        for language in (self, self._untold):
            if language:
                language.gain(EDGE, "a")

    @property
    def characters(self) -> int:
        """How many of texts were counted."""
        return self._texts.characters

    @cached_property
    def weight(self) -> float:
        """What the texts count beside the picture: little while there are few."""
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
            behind = before or EDGE
            found = self._heeded.gain(behind, character) if self._heeded else 0.0
            found -= MIXED * clash(behind[-1], character)
            if self.pieces:
                likely = self._texts.probability(fold(before), fold(character))
                found += self.weight * (log(likely) + self._texts.surprise)
            self._known[before, character] = found
        return found

    def cost(self, text: str, own: str | None = None) -> float:
        """Nats that it takes to say a text, as if `own`, which it has been told, had not been."""
        return self._texts.cost(pieces_of(text), pieces_of(own) if own is not None else ())


def pieces_of(text: str) -> list[str]:
    """The pieces of a text as it is drawn, whatever its case."""
    return ngram.pieces_of(fold(as_drawn(text)), EDGE)


def _pieces(folder: Path, file: Graph) -> dict[str, int]:
    try:
        pieces: dict[str, int] = json.loads(read_graph(folder, file))["pieces"]
        if not all(isinstance(n, int) and n > 0 and 1 < len(p) <= ORDER for p, n in pieces.items()):
            raise ValueError("a piece or its count makes no sense")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{folder / file.file} is no language of a reader: {error}") from error
    return pieces
