"""Letters of two writings make no word, and a mark needs a letter to stand on."""

import pytest

from redpencil.language import EDGE, MIXED, Language
from redpencil.scripts import clash, script


@pytest.mark.parametrize(
    ("character", "writing"),
    [("a", "LATIN"), ("ſ", "LATIN"), ("ν", "GREEK"), ("ಮ", "KANNADA"), ("ಿ", "KANNADA"), ("ﬁ", "LATIN")],
)
def test_a_letter_and_a_mark_belong_to_a_writing(character: str, writing: str) -> None:
    assert script(character) == writing


@pytest.mark.parametrize("character", [*"0.@ª日あカ한ｱ㎏µ", "\u0364", "\u0301", " ", EDGE])
def test_what_stands_beside_any_letter_belongs_to_none(character: str) -> None:
    assert script(character) == ""


@pytest.mark.parametrize("pair", ["Bಯ", "ಮS", "rν", "ಕа", "4ಿ", "@ಿ", "aಿ", "\nಿ", " ा"])
def test_no_word_has_both(pair: str) -> None:
    assert clash(*pair)


@pytest.mark.parametrize(
    "pair", ["ab", "ಕಿ", "ಿಕ", "4a", "ಕ4", " ಕ", "\nಕ", "-ν", "A股", "日あ", "u\u0364", "ಿ."]
)
def test_a_word_may_have_both(pair: str) -> None:
    assert not clash(*pair)


def test_a_reader_in_doubt_prefers_words_of_one_writing() -> None:
    language = Language.of(["SABA ಕಮ"])
    assert language.gain("SAB", "ಗ") == pytest.approx(language.gain("SAB", "日") - MIXED)
    assert language.gain("SAB ", "ಕ") > language.gain("SAB", "ಕ") + MIXED
