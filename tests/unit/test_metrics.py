"""Error rates as anybody would count them by hand."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redpencil.errors import BadInput
from redpencil.metrics import cer, distance, exact, grapheme_cer, graphemes, wer


def test_rates_are_micro_averaged_so_a_long_line_counts_for_more():
    pairs = [("abcdefghij", "abcdefghij"), ("xy", "xz")]
    assert cer(pairs) == pytest.approx(1 / 12)
    assert exact(pairs) == 0.5


def test_words_are_what_white_space_separates():
    assert wer([("two  red pencils", "two red pencil")]) == pytest.approx(1 / 3)


def test_an_accent_counts_once_however_it_is_encoded():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert distance(composed, decomposed) == 0
    assert exact([(composed, decomposed)]) == 1.0
    assert cer([(decomposed, "cafe")]) == pytest.approx(1 / 4)


def test_a_syllable_with_one_wrong_sign_is_one_wrong_letter():
    truth, read = "ಕಾಗದ", "ಕೀಗದ"
    assert graphemes(truth) == ["ಕಾ", "ಗ", "ದ"]
    assert cer([(truth, read)]) == pytest.approx(1 / 4)
    assert grapheme_cer([(truth, read)]) == pytest.approx(1 / 3)


def test_a_letter_with_a_sign_above_it_is_one_grapheme_even_where_nfc_keeps_two():
    assert graphemes("fuͤr") == ["f", "uͤ", "r"]
    assert graphemes("é") == ["é"]


def test_reading_something_where_nothing_is_written_is_an_error():
    assert cer([("", "ab")]) == 2.0
    assert cer([("", "")]) == 0.0


def test_no_lines_have_no_error_rate():
    for rate in (cer, grapheme_cer, wer, exact):
        with pytest.raises(BadInput, match="no line"):
            rate([])


TEXTS = st.text(max_size=12)


@given(TEXTS, TEXTS, TEXTS)
def test_distance_is_a_metric(a, b, c):
    assert distance(a, b) == distance(b, a)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
    assert (distance(a, b) == 0) == (unicodedata.normalize("NFC", a) == unicodedata.normalize("NFC", b))
