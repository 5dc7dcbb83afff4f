"""Texts in capitals whatever is printed: a habit of whoever writes them, and nothing about letters.

Who keys receipts often writes DATE for what is printed as Date. A reader that took this for the shape of
letters would learn neither: it goes on to read small letters, and writes DaTE elsewhere. So such texts
are learned as they are printed, and that they are written in capitals is remembered of these lines
(training/familiar.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal

from redpencil.text import in_capitals

SHAPED = frozenset("abdefghmnqrt")
"""Small letters that are no smaller copy of their capital, so that nobody takes one for the other."""
FEWEST = 3  # letters by which case is told
Habit = Literal["capitals", "small"] | None
"""How a line is labelled: in capitals though it is printed small; with small letters; or neither is told."""


def habit(text: str, printed: str) -> Habit:
    """That of a label by what is printed; few letters tell nothing about other lines."""
    if text != text.upper():
        return "small"
    return "capitals" if sum(c.islower() for c in printed) >= FEWEST else None


def all_as_printed(texts: Sequence[str], readings: Sequence[str]) -> list[str]:
    """Texts with small letters where these are printed, by what a reader makes of each line.

    Only a text that has none is looked at, and words of which the reading shows most letters small. What
    words of few letters look like counts once others have shown the habit.
    """
    pairs = list(zip(texts, readings, strict=True))
    printed = [as_printed(*pair) for pair in pairs]
    return [as_printed(*pair, short=True) for pair in pairs] if printed != list(texts) else printed


def as_printed(text: str, reading: str, short: bool = False) -> str:
    """The same of one text; `short`: words of few letters count by themselves."""
    if not text.isupper():
        return text
    shown = _beside(text, reading)
    words = [match.span() for match in re.finditer(r"\S+", text)]
    small = [_small([c for c in shown[start:end] if c.isalpha()]) for start, end in words]
    letters = list(text)
    for (start, end), is_small in zip(words, small, strict=True):
        for i in range(start, end):
            if is_small or (end - start < FEWEST and (short or any(small))):
                letters[i] = shown[i] or (text[i].lower() if is_small and i > start else text[i])
    return "".join(letters)


def _beside(text: str, reading: str) -> list[str]:
    """What a reading has at each character of a text, case aside; "" where it has something else."""
    shown = [""] * len(text)
    blocks = SequenceMatcher(None, in_capitals(reading), text, autojunk=False).get_matching_blocks()
    for block in blocks:
        shown[block.b : block.b + block.size] = reading[block.a : block.a + block.size]
    return shown


def _small(letters: Sequence[str]) -> bool:
    """Whether a word of these letters, as they are read, is printed small."""
    small = sum(c.islower() for c in letters)
    return len(letters) >= FEWEST and 2 * small > len(letters) and not SHAPED.isdisjoint(letters)
