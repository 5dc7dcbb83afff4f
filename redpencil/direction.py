"""Lines that run from right to left: their text as it is drawn, from left to right, and as it is read.

A line reader looks from left to right. So it learns and says what is drawn, in which Hebrew or Arabic
is reversed, figures and foreign words among it are not, and brackets are turned; everybody else sees
text as it is typed. A few texts are drawn alike: then the one is read in which figures follow the
foreign word beside them.
The order is that of the Unicode Bidirectional Algorithm (Unicode Standard Annex 9), but that signs
stand behind their letter here as there.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from itertools import chain

import regex
from bidi import get_display
from bidi.mirror import MIRRORED

_LEFTWARD = regex.compile(r"[\p{Bidi_Class=R}\p{Bidi_Class=AL}]")
_RIGHTWARD = regex.compile(r"\p{Bidi_Class=L}")
_REVERSED = regex.compile(r"([\p{M}\u200c\u200d]+)([\p{Bidi_Class=R}\p{Bidi_Class=AL}])")
"""Signs and joiners in front of their letter."""

_CLASSES = {"L": "L", "R": "R", "AL": "A", "EN": "1", "AN": "2", "CS": ":", "ES": "+", "ET": "%"}
_KINDS = {kind: regex.compile(rf"\p{{Bidi_Class={name}}}") for name, kind in _CLASSES.items()}
_KINDS |= {"(": regex.compile(r"\p{Ps}"), ")": regex.compile(r"\p{Pe}")}
"""How letters, figures, the signs between and beside figures and brackets are written in what follows."""
_ATOM = r"(?:[RA2]|\([^L()]*[RA2][^L()]*\))"
_BACKWARD = re.compile(rf"{_ATOM}(?:(?:[^L()]|\([^L()]*\))*{_ATOM})?")
"""What of a line that is read from left to right is read from right to left."""
_PAIR = r"\([^RA2()]*[L1][^RA2()]*\)"
_FORWARD = re.compile(
    # foreign words, with figures in them (12.5kg, $5M) and behind them
    rf"(?:%*[12](?:[12:+%]*[12%])?)?L(?:(?:[^RA2()]|{_PAIR})*(?:L|1%*|{_PAIR}))?"
    r"|[12](?::?[12])*(?=[^LRA]*A)"  # figures behind Arabic, which is to their right: 1:5 and 1.5 are one
    r"|(?![^LRA]*A)(?:%*1(?:[:+]?1)*%*|2(?::?2)*)+"  # figures elsewhere: 1-5 and 50% are one too
    r"|(?P<none>.)"
)
"""What of a line that is read from right to left is read from left to right; else one letter."""
_FOREIGN, _AMONG = re.compile(r"[^L]*[RA][^L]*"), re.compile(r"[RA][^L]*[RA]")
"""Such a part with all that is no letter around it, and from its first letter to its last."""


def as_drawn(text: str) -> str:
    """A line's characters in the order in which they stand in its picture."""
    if not _LEFTWARD.search(text):
        return text
    left = runs_left(text)
    shown = get_display(text, base_dir="R" if left else "L")  # with brackets as they were typed
    letters = regex.findall(r"\X", _REVERSED.sub(lambda m: m[2] + m[1][::-1], shown))
    kinds = _kinds(letters)
    return "".join(_turned(letters, _against(_order(kinds, left)) if left else _crossed(kinds)))


def as_read(drawn: str) -> tuple[str, Sequence[int]]:
    """The text that is drawn so, and which one of the drawn characters each of its characters is."""
    if not _LEFTWARD.search(drawn):
        return drawn, range(len(drawn))
    places = [range(*found.span()) for found in regex.finditer(r"\X", drawn)]
    letters = [drawn[at.start : at.stop] for at in places]
    parts = _order(_kinds(letters), runs_left(drawn))
    turned, order = _turned(letters, _against(parts)), list(chain.from_iterable(at for at, _ in parts))
    return "".join(turned[i] for i in order), list(chain.from_iterable(places[i] for i in order))


def _order(kinds: str, left: bool) -> list[tuple[range, bool]]:
    """The parts of a drawn line as they are read, and of each whether it runs from right to left."""
    parts, at = list[tuple[range, bool]](), 0
    for start, end in [(0, len(kinds))] if left else [part.span() for part in _BACKWARD.finditer(kinds)]:
        found = [(range(*m.span()), m["none"] is not None) for m in _FORWARD.finditer(kinds, start, end)]
        parts += [(range(at, start), False), *reversed(found)]
        at = end
    return [*parts, (range(at, len(kinds)), False)]


def _against(parts: list[tuple[range, bool]]) -> set[int]:
    return {i for places, backward in parts for i in places if backward}


def _crossed(kinds: str) -> set[int]:
    """What is turned round within a line that is read from left to right.

    Signs among letters that run from right to left, and of brackets those that look away from each other.
    """
    found: set[int] = set()
    for among in _AMONG.finditer(kinds):
        found |= {i for i in range(*among.span()) if kinds[i] not in "()"}
    for stretch in _FOREIGN.finditer(kinds):
        open_ones: list[int] = []
        for i in (i for i in range(*stretch.span()) if kinds[i] in "()"):
            if not open_ones or kinds[open_ones[-1]] == kinds[i]:
                open_ones.append(i)
            elif kinds[other := open_ones.pop()] == ")":
                found |= {other, i}
    return found


def runs_left(text: str) -> bool:
    """Whether a third of the letters or more are of scripts that run from right to left.

    Such lines have long foreign words more often than others have words of theirs.
    """
    leftward = len(_LEFTWARD.findall(text))
    return 0 < 2 * leftward >= len(_RIGHTWARD.findall(text))


def _kinds(letters: Sequence[str]) -> str:
    return "".join(map(_kind, letters))


def _kind(letter: str) -> str:
    return next((kind for kind, wanted in _KINDS.items() if wanted.match(letter)), " ")


def _turned(letters: Sequence[str], places: Container[int]) -> list[str]:
    """The letters, with brackets and the like at some places looking the other way."""
    return [MIRRORED.get(x[0], x[0]) + x[1:] if i in places else x for i, x in enumerate(letters)]
