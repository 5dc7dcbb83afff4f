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
from collections.abc import Sequence
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
_BACKWARD = re.compile(r"[RA](?:[^L]*[RA])?")
"""What of a line that is read from left to right is read from right to left."""
_PAIR = r"\([^RA2()]*[L1][^RA2()]*\)"
_FORWARD = re.compile(
    rf"[12]*L(?:(?:[^RA2()]|{_PAIR})*(?:L|1%*|{_PAIR}))?"  # foreign words, and figures behind them
    r"|[12](?::?[12])*(?=[^LRA]*A)"  # figures behind Arabic, which is to their right: 1:5 and 1.5 are one
    r"|(?![^LRA]*A)(?:%*1(?:[:+]?1)*%*|2(?::?2)*)+"  # figures elsewhere: 1-5 and 50% are one too
    r"|(?P<none>.)"
)
"""What of a line that is read from right to left is read from left to right; else one letter."""


def as_drawn(text: str) -> str:
    """A line's characters in the order in which they stand in its picture."""
    if not _LEFTWARD.search(text):
        return text
    shown = get_display(text, base_dir="R" if runs_left(text) else "L")
    letters = regex.findall(r"\X", _REVERSED.sub(lambda m: m[2] + m[1][::-1], shown))
    return "".join(_seen(letters)[0])


def as_read(drawn: str) -> tuple[str, Sequence[int]]:
    """The text that is drawn so, and which one of the drawn characters each of its characters is."""
    if not _LEFTWARD.search(drawn):
        return drawn, range(len(drawn))
    places = [range(*found.span()) for found in regex.finditer(r"\X", drawn)]
    letters, order = _seen([drawn[at.start : at.stop] for at in places])
    return "".join(letters[i] for i in order), list(chain.from_iterable(places[i] for i in order))


def _seen(letters: list[str]) -> tuple[list[str], list[int]]:
    """The letters of a line, turned round where it is read from right to left, and the order of reading.

    Turning them twice gives what they were.
    """
    kinds = "".join(map(_kind, letters))
    whole = runs_left("".join(letters))
    turned, order = list(letters), list[int]()
    for start, end in [(0, len(kinds))] if whole else [part.span() for part in _BACKWARD.finditer(kinds)]:
        parts = list(_FORWARD.finditer(kinds, start, end))
        for part in parts:
            if part["none"]:
                turned[part.start()] = _turned(letters[part.start()])
        order += range(len(order), start)
        order += chain.from_iterable(range(*part.span()) for part in reversed(parts))
    return turned, order + list(range(len(order), len(letters)))


def runs_left(text: str) -> bool:
    """Whether a third of the letters or more are of scripts that run from right to left.

    Such lines have long foreign words more often than others have words of theirs.
    """
    leftward = len(_LEFTWARD.findall(text))
    return 0 < 2 * leftward >= len(_RIGHTWARD.findall(text))


def _kind(letter: str) -> str:
    return next((kind for kind, wanted in _KINDS.items() if wanted.match(letter)), " ")


def _turned(letter: str) -> str:
    first: str = MIRRORED.get(letter[0], letter[0])
    return first + letter[1:]
