"""Text that people type: made canonical, or refused with the reason."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redpencil import text
from redpencil.errors import BadInput


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("the", "the"),
        ("", ""),
        ("the\n", "the"),
        ("the\r\n", "the"),
        (" two  spaces ", "two  spaces"),
        ("cafe\u0301", "café"),
        ("ſtraße", "ſtraße"),
        ("ಕ್ಷ\u200d", "ಕ್ಷ\u200d"),
        ("שלום\u200f", "שלום\u200f"),
        ("\ue5dc", "\ue5dc"),
    ],
    ids=["plain", "empty", "newline", "crlf", "spaces", "nfc", "long s", "joiner", "mark", "private use"],
)
def test_good_text_is_made_canonical(typed: str, kept: str) -> None:
    assert text.clean(typed) == kept


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("a\tb", r"control character U\+0009"),
        ("a\x00b", r"control character U\+0000"),
        ("a\x85b", r"control character U\+0085"),
        ("a\nb", "line break"),
        ("\nb", "line break"),
        ("a\u2028b", "line break"),
        ("a\ud800b", "surrogate"),
        ("a\u202eb", r"invisible mark U\+202E"),
        ("\ufeffa", r"invisible mark U\+FEFF"),
        ("in\u200bvoice", r"invisible mark U\+200B"),
        ("in\u00advoice", r"invisible mark U\+00AD"),
        ("a\uffff", "no character"),
        ("a\U0002fffe", "no character"),
        ("x" * 2_001, "2,001 characters"),
        ("x" * 1_000_000, "1,000,000 characters"),
        ("\U0001d160" * 1_000, "characters"),
    ],
)
def test_bad_text_is_refused_with_the_reason(typed: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        text.clean(typed)


def test_the_limit_counts_what_is_kept() -> None:
    assert len(text.clean("e\u0301" * 2_000)) == 2_000


def test_a_label_is_short_and_named_in_the_error() -> None:
    assert text.label("  box 7 ", "group") == "box 7"
    with pytest.raises(BadInput, match=r"^group: "):
        text.label("x" * 201, "group")


@given(st.text(max_size=60))
def test_whatever_is_taken_is_canonical_and_can_be_stored(typed: str) -> None:
    try:
        kept = text.clean(typed)
    except BadInput:
        return
    assert text.clean(kept) == kept == unicodedata.normalize("NFC", kept)
    assert kept.encode().decode() == kept
    assert "Cc" not in {unicodedata.category(c) for c in kept}


def test_what_a_model_wrote_becomes_a_line_that_is_taken() -> None:
    written = "two\nlines\u2028 and\0 a tab\t"
    kept = text.one_line(written)
    assert kept == "two lines  and  a tab "
    assert text.clean(kept) == kept.strip()
