"""The append-only alphabet: class 0 is the CTC blank, class i+1 is alphabet[i].

Texts are spelled as they are drawn (redpencil/direction.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from redpencil.direction import as_drawn
from redpencil.errors import BadInput


def grow(alphabet: tuple[str, ...], texts: Iterable[str]) -> tuple[str, ...]:
    """The alphabet with every character of `texts`; new ones come sorted at the end.

    What was in it keeps its place, so a class never changes its meaning.
    """
    return alphabet + tuple(sorted(set().union(*map(as_drawn, texts)) - set(alphabet)))


def encode(text: str, alphabet: tuple[str, ...]) -> list[int]:
    """Class ids (1-based) of a text; a character outside the alphabet is refused."""
    return classes_of(as_drawn(text), alphabet)


def classes_of(characters: Iterable[str], alphabet: tuple[str, ...]) -> list[int]:
    """Class ids of characters, in their order."""
    characters, classes = list(characters), _classes(alphabet)
    if unknown := sorted(set(characters) - classes.keys()):
        named = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown[:5])
        raise BadInput(f"the alphabet lacks {named}; grow it before training on this text")
    return [classes[c] for c in characters]


@lru_cache(maxsize=8)
def _classes(alphabet: tuple[str, ...]) -> dict[str, int]:
    # The first wins where a model's own list repeats a character.
    return {c: i for i, c in reversed(list(enumerate(alphabet, start=1)))}
