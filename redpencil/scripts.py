"""Which writing a letter belongs to, and which letters do not stand side by side in one word."""

from __future__ import annotations

import unicodedata
from functools import cache

from redpencil.words import is_letter

FREE = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO"}
FREE |= {"FULLWIDTH", "HALFWIDTH", "COMBINING", "MODIFIER"}
"""Begin the names of characters that stand beside others in one word, as those of Chinese and Japanese do."""


@cache
def script(character: str) -> str:
    """The writing of a letter or vowel mark, as Unicode names it; empty for what may stand anywhere."""
    name = unicodedata.name(character, "")
    first = name.split(" ")[0]
    named = any(f" {kind} " in name for kind in ("LETTER", "LIGATURE", "SIGN"))
    return first if named and first not in FREE and is_letter(character) else ""


def clash(before: str, character: str) -> bool:
    """Whether a character right behind another one makes no word: letters of two writings, or a mark
    without a letter of its own to stand on."""
    own, other = script(character), script(before)
    if unicodedata.category(character)[0] == "M":
        return bool(own) and own != other
    return bool(own and other) and own != other


def stacked(text: str) -> bool:
    """Whether it has marks of a writing of its own, as Kannada and Thai have about their letters."""
    marks = (c for c in text if unicodedata.category(c)[0] == "M")
    return any(not unicodedata.name(c, "").startswith("COMBINING") for c in marks)
