"""Text that people type, made canonical or refused with the reason."""

from __future__ import annotations

import unicodedata

from redpencil.errors import BadInput

LIMIT = 2_000
"""Most characters of one line."""
WRITTEN = r"^[^\x00]*$"
"""Text that every database can keep."""
LABEL_LIMIT = 200
"""Most characters of a name: an author, a group, a key."""

# they change how a line looks without being in it: a person cannot see what is taught
_UNSEEN = frozenset("\u00ad\u200b\u2060\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def clean(text: str, limit: int = LIMIT) -> str:
    """One line in NFC without space around it; BadInput says what is wrong with it.

    Empty text is fine: nothing is written there.
    """
    if len(text) > 4 * limit:
        raise BadInput(f"The text has {len(text):,} characters; at most {limit:,} are taken for one line.")
    text = text.rstrip("\r\n")
    fault = next((_fault(c) for c in text if _fault(c)), None)
    if fault:
        raise BadInput(f"The text cannot be taken: it contains {fault}.")
    text = unicodedata.normalize("NFC", text).strip()
    if len(text) > limit:
        raise BadInput(f"The text has {len(text):,} characters; at most {limit:,} are taken for one line.")
    return text


def one_line(text: str) -> str:
    """What a model wrote, with a space in place of each character that `clean` would refuse."""
    return "".join(" " if _fault(c) else c for c in text)


def in_capitals(text: str) -> str:
    """The text in capitals, character by character: what has no single capital, such as ß, stays."""
    return "".join(capital if len(capital := c.upper()) == 1 else c for c in text)


def label(name: str, what: str) -> str:
    """A name that a client gives to something, cleaned; `what` is how an error calls it."""
    try:
        return clean(name, LABEL_LIMIT)
    except BadInput as error:
        raise BadInput(f"{what}: {error}") from error


def _fault(c: str) -> str:
    """What is wrong with a character; empty where nothing is."""
    code = ord(c)
    if c in "\n\r\u2028\u2029":
        return "a line break, and one line is wanted"
    if unicodedata.category(c) == "Cc":
        return f"the control character U+{code:04X}"
    if 0xD800 <= code <= 0xDFFF:
        return f"half of a surrogate pair, U+{code:04X}; it was cut in two or wrongly decoded"
    if c in _UNSEEN:
        return f"the invisible mark U+{code:04X}"
    if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return f"U+{code:04X}, which is no character"
    return ""
