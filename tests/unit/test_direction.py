"""What runs from right to left is learned and said as it is drawn, and shown as it is typed."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redpencil.decode import ctc_greedy
from redpencil.direction import as_drawn, as_read, runs_left
from redpencil.language import EDGE, Language
from redpencil.vocab import encode, grow
from redpencil.words import Words

HEBREW, ARABIC = "שלום", "كتاب"
DRAWN = {
    "no such letter (1) [ab]": "no such letter (1) [ab]",
    HEBREW: HEBREW[::-1],
    f"{HEBREW} 12 {ARABIC}": f"{ARABIC[::-1]} 12 {HEBREW[::-1]}",
    f"({HEBREW}) 3.5": f"3.5 ({HEBREW[::-1]})",
    f"{HEBREW} Red Pencil 12, {HEBREW}": f"{HEBREW[::-1]} ,Red Pencil 12 {HEBREW[::-1]}",
    f"{HEBREW} IBM (USA) {HEBREW}": f"{HEBREW[::-1]} IBM (USA) {HEBREW[::-1]}",
    f"{HEBREW} 10 20 10-20 50%": f"50% 10-20 20 10 {HEBREW[::-1]}",
    f"{ARABIC} 10-20 1.5": f"1.5 20-10 {ARABIC[::-1]}",
    f"«{ARABIC}» ١٢٣": f"١٢٣ «{ARABIC[::-1]}»",
    f"{HEBREW} 12.5kg {HEBREW} $5M": f"$5M {HEBREW[::-1]} 12.5kg {HEBREW[::-1]}",
    f"the words in ({HEBREW}) are Hebrew": f"the words in ({HEBREW[::-1]}) are Hebrew",
    f"Invoice number {ARABIC} ١٢٣ of today": f"Invoice number ١٢٣ {ARABIC[::-1]} of today",
    f"the words {HEBREW} 12 {HEBREW} are Hebrew": f"the words {HEBREW[::-1]} 12 {HEBREW[::-1]} are Hebrew",
}


@pytest.mark.parametrize(("text", "drawn"), DRAWN.items())
def test_a_text_is_drawn_and_read_again(text: str, drawn: str) -> None:
    assert as_drawn(text) == drawn
    assert as_read(drawn)[0] == text


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        (f"see chapter 3 of {HEBREW} (12)", f"see chapter 3 of (12) {HEBREW[::-1]}"),
        (f"a long English line (ה) {HEBREW} (א)", f"a long English line (ה) (א) {HEBREW[::-1]}"),
        (f"{HEBREW} 12 IBM", f"IBM 12 {HEBREW[::-1]}"),
    ],
)
def test_what_is_drawn_like_another_text_is_read_as_one_of_them(text: str, drawn: str) -> None:
    assert as_drawn(text) == drawn
    assert as_drawn(as_read(drawn)[0]) == drawn


def test_signs_and_joiners_stay_behind_their_letter() -> None:
    voweled, joined = "שָׁלוֹם", "می\u200cخواهم"
    assert as_drawn(voweled) == "םוֹלשָׁ"
    assert as_drawn(joined) == "مهاوخی\u200cم"
    assert [as_read(as_drawn(text))[0] for text in (voweled, joined)] == [voweled, joined]


@given(
    st.lists(
        st.sampled_from([HEBREW, ARABIC, "مِن", "12", "1.250,5", "10:30", "(", ")", "،", "-", "«", "١٢٣"])
    )
)
def test_nothing_is_lost_or_changed_but_the_side_of_a_bracket(parts: list[str]) -> None:
    text = " ".join(parts)
    drawn = as_drawn(text)
    again, order = as_read(drawn)
    assert as_drawn(again) == drawn, "what is read is drawn so"
    assert sorted(order) == list(range(len(drawn)))
    assert sorted(map(_plain, drawn)) == sorted(map(_plain, text))


def _plain(c: str) -> str:
    return "mirrored" if unicodedata.mirrored(c) else c


@given(st.text(st.sampled_from("אבגשםכ ,.:()12"), min_size=1))
def test_a_line_without_foreign_words_is_read_as_it_was_typed(text: str) -> None:
    assert as_read(as_drawn(text))[0] == text


def test_a_reader_says_as_typed_what_it_sees_from_left_to_right() -> None:
    """Its last step, at the right end of the line, is the first character."""
    alphabet = grow((), [f"({HEBREW}) 12"])
    seen = encode(f"({HEBREW}) 12", alphabet)
    assert "".join(alphabet[c - 1] for c in seen) == f"12 ({HEBREW[::-1]})"
    line = ctc_greedy(np.array(seen), np.linspace(0.1, 0.9, len(seen)), alphabet)
    assert line.text == f"({HEBREW}) 12"
    assert line.char_confidence[0] == 0.9
    assert line.char_confidence[-2:] == (0.1, 0.2)


def test_the_alphabet_has_a_bracket_as_it_is_drawn() -> None:
    alphabet = grow((), [f"1) {HEBREW}"])
    assert "(" in alphabet
    assert ")" not in alphabet
    assert len(encode(f"1) {HEBREW}", alphabet)) == len(HEBREW) + 3


def test_a_language_knows_what_is_drawn() -> None:
    text = "בראשית ברא אלהים"
    texts, words = Language.of([text] * 3), Language({}, Words({"בראשית": 5, "אלהים": 4}))
    for language in (texts, words):
        assert language.gain(EDGE, as_drawn(text) + EDGE) > language.gain(EDGE, text + EDGE)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", False),
        ("12 (3)", False),
        (HEBREW, True),
        ("a letter, a line " + HEBREW, False),
        ("a letter " + HEBREW, True),
    ],
)
def test_a_line_runs_as_its_letters_do(text: str, left: bool) -> None:
    assert runs_left(text) is left
