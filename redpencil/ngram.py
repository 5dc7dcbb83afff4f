"""How likely a character is after others, counted in texts: an n-gram model, smoothed.

The smoothing is Witten and Bell's (IEEE Trans. Inf. Theory 37, 1991): each longer history speaks for as
much as it was seen, and leaves the rest to the shorter one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log

ORDER = 6
"""Characters that are counted together: one and the five before it."""
UNHEARD = 1 / 4096
"""Of a character that no text has."""
ASKED = 5_000
"""Pieces that tell what a character costs on average, at most."""


@dataclass(frozen=True, slots=True)
class _Less:
    """What is not counted: of pieces, of all behind a history, and of different ones behind it."""

    counts: Counter[str]
    often: Counter[str]
    different: Counter[str]


class NGram:
    """What the pieces of texts say. Safe to use from many threads.

    A piece is a character with those before it, ORDER together and fewer only at a text's beginning,
    so that every place of the texts is counted once.
    """

    def __init__(self, pieces: Mapping[str, int]) -> None:
        self.pieces = pieces

    @cached_property
    def characters(self) -> int:
        """How many were counted."""
        return sum(self.pieces.values())

    def probability(self, before: str, character: str, less: _Less | None = None) -> float:
        """Of a character after such a text, with less counted than there is."""
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

    def cost(self, asked: Iterable[str], own: Iterable[str] = ()) -> float:
        """Nats that it takes to say these pieces, as if its `own`, as far as it has them, had not been."""
        less = self._less(own)
        return sum(-log(self.probability(piece[:-1], piece[-1], less)) for piece in asked)

    @cached_property
    def surprise(self) -> float:
        """Nats of a character of the texts on average, each left out of the counts while it is asked for."""
        asked = sorted(self.pieces)[:: 1 + len(self.pieces) // ASKED]
        often = [self.pieces[piece] for piece in asked]
        nats = [self.cost([piece], [piece]) for piece in asked]
        return sum(n * cost for n, cost in zip(often, nats, strict=True)) / max(1, sum(often))

    def _less(self, pieces: Iterable[str]) -> _Less:
        """One copy of these, of every length."""
        counted = (piece for piece in pieces if piece in self.pieces)
        counts = Counter(piece[start:] for piece in counted for start in range(len(piece)))
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


def pieces_of(text: str, edge: str) -> list[str]:
    """For every character of a text, and its end, the longest piece that ends there; `edge` stands around."""
    whole = f"{edge}{text}{edge}"
    return [whole[max(0, i - ORDER + 1) : i + 1] for i in range(1, len(whole))]


def fold(text: str) -> str:
    """Without case, and as long as before."""
    if len(low := text.lower()) == len(text):
        return low
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)
