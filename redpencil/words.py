"""What words are like, in many languages at once, so that a reader in doubt prefers what may be one.

It says which letter may follow others in a word, where one may begin and where it may end. Of figures and
signs it says nothing, nor of letters that none of its words has; case is left to the picture.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from math import log
from pathlib import Path
from typing import Self

from redpencil.bundle import Graph, read_graph
from redpencil.direction import as_drawn
from redpencil.errors import Damaged
from redpencil.ngram import NGram, fold, pieces_of

FILE = "words.json"
BOUND, STRANGE = " ", "?"
"""All that is no letter, and letters that no word has."""
WEIGHT = 0.2
"""What a word weighs beside its picture (docs/log.md, 2026-11-29)."""


class Words:
    """Words with how often each is met, and where they come from. Safe to use from many threads."""

    def __init__(self, counts: Mapping[str, int], source: str = "") -> None:
        self.counts, self.source = counts, source

    @classmethod
    def load(cls, folder: Path, file: Graph) -> Self:
        """Those in a bundle's folder; Damaged where the file is not what the manifest says."""
        try:
            content = json.loads(read_graph(folder, file))
            counts, source = content["words"], str(content["source"])
            if not all(isinstance(often, int) and often > 0 and word for word, often in counts.items()):
                raise ValueError("a word or its count makes no sense")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{folder / file.file} is no list of words: {error}") from error
        return cls(counts, source)

    def save(self, folder: Path) -> Graph:
        """Write them beside a bundle's graphs; the same words always give the same bytes."""
        content = {"source": self.source, "words": self.counts}
        text = json.dumps(content, ensure_ascii=False, sort_keys=True, indent=0)
        (folder / FILE).write_text(text, encoding="utf-8")
        return Graph.of(folder / FILE)

    def gain(self, before: str, character: str) -> float:
        """What `character` after `before`, which is not empty, adds to a reading's log probability.

        Positive where it is likelier than letters of words are on average.
        """
        heard = "".join(map(self._kind, fold(before + character)))
        if STRANGE in heard[-2:] or heard[-2:] == BOUND * 2:
            return 0.0
        start = max(heard.rfind(STRANGE, 0, -1) + 1, heard.rfind(BOUND, 0, -1))
        return WEIGHT * (log(self._letters.probability(heard[start:-1], heard[-1])) + self._letters.surprise)

    def _kind(self, character: str) -> str:
        if character in self._known:
            return character
        return STRANGE if is_letter(character) else BOUND

    @cached_property
    def _letters(self) -> NGram:
        pieces: Counter[str] = Counter()
        for word, often in self.counts.items():
            for piece in pieces_of(fold(as_drawn(word)), BOUND):
                pieces[piece] += often
        return NGram(pieces)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset("".join(map(fold, self.counts)))


def is_letter(character: str) -> bool:
    """Letters, and the marks that scripts like Devanagari write their vowels with."""
    return unicodedata.category(character)[0] in "LM"
