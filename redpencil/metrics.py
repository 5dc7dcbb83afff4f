"""How far a reading is from the truth: CER, WER, exact match, and the edits a person makes.

Characters are the code points of the NFC text, graphemes what a person sees as one letter (Unicode
Standard Annex 29), words what white space separates. Rates are micro-averaged: all edits of all
lines over all characters (graphemes, words) of all references, so a long line counts for more than
a short one. Pairs are (reference, hypothesis).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import editdistance
import regex

from redpencil.errors import BadInput

Pairs = Iterable[tuple[str, str]]


def characters(text: str) -> str:
    """The text as it is counted: NFC, so that a letter with its accent is one character where it can be."""
    return unicodedata.normalize("NFC", text)


def distance(a: str, b: str) -> int:
    """The fewest characters to insert, delete or replace to turn one text into the other."""
    return int(editdistance.eval(characters(a), characters(b)))


def cer(pairs: Pairs) -> float:
    """Character error rate; may exceed 1. References without a character count as one character."""
    return _rate([(characters(a), characters(b)) for a, b in pairs])


def graphemes(text: str) -> list[str]:
    """The letters as they are seen: a base with all that is written above, below and beside it is one."""
    found: list[str] = regex.findall(r"\X", characters(text))
    return found


def grapheme_cer(pairs: Pairs) -> float:
    """Error rate of graphemes; may exceed 1. In scripts that combine signs it is above the CER.

    A syllable with one sign wrong is wrong as a whole, as it is to who reads it.
    """
    return _rate([(graphemes(a), graphemes(b)) for a, b in pairs])


def wer(pairs: Pairs) -> float:
    """Word error rate; may exceed 1. References without a word count as one word."""
    return _rate([(characters(a).split(), characters(b).split()) for a, b in pairs])


def exact(pairs: Pairs) -> float:
    """The share of lines read without a fault."""
    hits = [characters(a) == characters(b) for a, b in pairs]
    if not hits:
        raise BadInput("there is no line to measure")
    return sum(hits) / len(hits)


def _rate(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> float:
    if not pairs:
        raise BadInput("there is no line to measure")
    edits = sum(editdistance.eval(a, b) for a, b in pairs)
    return float(edits / max(1, sum(len(a) for a, _ in pairs)))
