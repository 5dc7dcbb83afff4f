"""How odd a text is among others of its kind: a small model of which character follows which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from math import log

LONGEST = 4
"""Characters of context."""


class Spelling:
    """Counts of characters after the up to four before them, mixed as Witten and Bell do.

    A text that was counted is judged as if it had not been: give it as `own`.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._pairs: Counter[tuple[str, str]] = Counter()
        for text in texts:
            self._pairs.update(_pairs(text))
        self._seen: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        for (before, _), times in self._pairs.items():
            self._seen[before] += times
            self._kinds[before] += 1

    def cost(self, text: str, own: str | None = None) -> float:
        """Nats that it takes to say `text`, given all texts but one copy of `own`, which is among them."""
        mine = Counter(_pairs(own) if own is not None else ())
        seen, kinds = Counter[str](), Counter[str]()
        for (before, c), times in mine.items():
            seen[before] += times
            kinds[before] += self._pairs[before, c] == times
        unknown = 1 / (10 * max(1, self._kinds[""]))
        total, whole = 0.0, f"\n{text}\n"
        for at in range(1, len(whole)):
            share = unknown
            for start in range(at, max(-1, at - LONGEST - 1), -1):
                before = whole[start:at]
                if (times := self._seen[before] - seen[before]) <= 0:
                    break
                new, pair = self._kinds[before] - kinds[before], (before, whole[at])
                share = (self._pairs[pair] - mine[pair] + new * share) / (times + new)
            total -= log(share)
        return total


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """(the characters before, the character), for every length of before."""
    whole = f"\n{text}\n"
    for at in range(1, len(whole)):
        for start in range(at, max(-1, at - LONGEST - 1), -1):
            yield whole[start:at], whole[at]
