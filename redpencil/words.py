"""What words are like, so that a reader in doubt prefers what may be one.

Those of many languages at once where nobody said which, or of those that corrected texts are in.

It says which letter may follow others in a word, where one may begin and where it may end. Of figures and
signs it says nothing, nor of letters that none of its words has; case, ſ or s and ß or ss are left to the
picture.
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
from redpencil.ngram import NGram, pieces_of

FILE, OWN = "words.json", "own_words.json"
"""Of any language, and of those of corrected texts."""
BOUND, STRANGE = " ", "?"
"""All that is no letter, and letters that no word has."""
WEIGHT, MET = 0.2, 0.4
"""What a word weighs beside its picture, of any language and of those of corrected texts (docs/log.md)."""


class Words:
    """Words with how often each is met, and where they come from. Safe to use from many threads.

    `met` says in how many words of corrected texts each of their languages was met; without, they are of
    any language.
    """

    def __init__(
        self, counts: Mapping[str, int], source: str = "", met: Mapping[str, float] | None = None
    ) -> None:
        self.counts, self.source, self.met = counts, source, met or {}
        self.weight = MET if self.met else WEIGHT

    @classmethod
    def load(cls, folder: Path, file: Graph) -> Self:
        """Those in a bundle's folder; Damaged where the file is not what the manifest says."""
        try:
            content = json.loads(read_graph(folder, file))
            counts, source, met = content["words"], str(content["source"]), content.get("met", {})
            if not all(isinstance(often, int) and often > 0 and word for word, often in counts.items()):
                raise ValueError("a word or its count makes no sense")
            if not all(isinstance(often, int | float) and often >= 0 for often in met.values()):
                raise ValueError("a language was met less than never")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{folder / file.file} is no list of words: {error}") from error
        return cls(counts, source, met)

    def save(self, folder: Path) -> Graph:
        """Write them beside a bundle's graphs; the same words always give the same bytes."""
        content = {"source": self.source, "words": self.counts} | ({"met": self.met} if self.met else {})
        text = json.dumps(content, ensure_ascii=False, sort_keys=True, indent=0)
        path = folder / (OWN if self.met else FILE)
        path.write_text(text, encoding="utf-8")
        return Graph.of(path)

    def gain(self, before: str, character: str) -> float:
        """What `character` after `before`, which is not empty, adds to a reading's log probability.

        Positive where it is likelier than letters of words are on average.
        """
        heard, total = before.casefold(), 0.0
        for letter in character.casefold():
            heard += letter
            total += self._gain("".join(map(self._kind, heard)))
        return self.weight * total

    def _gain(self, heard: str) -> float:
        if STRANGE in heard[-2:] or heard[-2:] == BOUND * 2:
            return 0.0
        start = max(heard.rfind(STRANGE, 0, -1) + 1, heard.rfind(BOUND, 0, -1))
        return log(self._letters.probability(heard[start:-1], heard[-1])) + self._letters.surprise

    def _kind(self, character: str) -> str:
        if character in self._known:
            return character
        return STRANGE if is_letter(character) else BOUND

    @cached_property
    def _letters(self) -> NGram:
        pieces: Counter[str] = Counter()
        for word, often in self.counts.items():
            for piece in pieces_of(as_drawn(word).casefold(), BOUND):
                pieces[piece] += often
        return NGram(pieces)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset("".join(self.counts).casefold())


def is_letter(character: str) -> bool:
    """Letters, and the marks that scripts like Devanagari write their vowels with."""
    return unicodedata.category(character)[0] in "LM"
