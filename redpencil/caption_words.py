"""The words of a caption, as they are compared.

The rules are near those that COCO's captions are cut by (Penn Treebank, small letters, punctuation
left out), so that scores can be set beside published ones:

- small letters, NFC; white space and punctuation separate words and are left out, quotes and
  brackets too; a sign such as % or & is a word of its own;
- a hyphen, slash or apostrophe inside a word stays (`black-and-white`), as do point, comma and colon
  between digits (`3.5`, `10:30`) and the points of letters (`u.s.`);
- English contractions are two words: `do n't`, `man 's`, `can not`.

Of 6,651 captions one comes out otherwise than by the tool that COCO used, which leaves `]` in as `-rsb-`.
In scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) every letter, with
the signs that it carries, is a word: else one wrong letter would make a whole clause wrong.
"""

from __future__ import annotations

import re
import unicodedata

INNER = "-'/.,:"
"""Punctuation that may stand inside a word."""
JOINERS = "\u200c\u200d"  # without them some Indic words are spelt otherwise

UNSPACED = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
"""What is written in a script without spaces between words, as a regular expression's class."""

# the same sign by other codes; a soft hyphen is no sign at all
_SAME = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "‐": "-", "‑": "-", "\u00ad": None})
_UNSPACED = re.compile(UNSPACED)
_APART = re.compile(r"(?<!\d)[,:]|[,:](?!\d)|[-'/.,:]{2,}|(?<=[^\W\d]{2})\.|\.(?=[^\W\d]{2})")
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))$")
_WHOLE = re.compile(r"'(?:s|m|d|re|ve|ll)|(?:[^\W\d]\.){2,}")
_FUSED = {"cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na"}


def words(text: str) -> list[str]:
    """The words of a caption in their order; the same words give the same caption, for every measure."""
    plain = unicodedata.normalize("NFC", text).translate(_SAME).lower()
    chunks = _APART.sub(" ", "".join(map(_spaced, _by_letters(plain)))).split()
    return [word for chunk in chunks for word in _split(chunk)]


def _by_letters(plain: str) -> str:
    """The same with spaces around each such letter and the signs that it carries."""
    if not _UNSPACED.search(plain):  # as most captions
        return plain
    found, alone = "", False
    for c in plain:
        if (kind := unicodedata.category(c)[0]) == "M":
            found += c
            continue
        before, alone = alone, kind == "L" and _UNSPACED.match(c) is not None
        found += f" {c}" if before or alone else c
    return found


def _spaced(c: str) -> str:
    """A character as it is where it may be part of a word, apart where it is a sign, else a space."""
    kind = unicodedata.category(c)[0]
    if kind in "LMN" or c in INNER or c in JOINERS:
        return c
    return f" {c} " if kind == "S" or c in "%&#@*" else " "


def _split(chunk: str) -> list[str]:
    if _WHOLE.fullmatch(chunk):
        return [chunk]
    word = chunk.strip(INNER)
    return _FUSED.get(word, _CLITIC.sub(r" \1", word)).split()
