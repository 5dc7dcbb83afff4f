"""What may be a word."""

import json
from pathlib import Path

import pytest

from redpencil import words
from redpencil.bundle import Graph
from redpencil.errors import Damaged
from redpencil.words import Words

KNOWN = Words({"straße": 4, "strasse": 1, "und": 9, "तारा": 3}, "a list")


def test_a_letter_that_goes_on_a_word_gains_and_another_loses() -> None:
    assert KNOWN.gain("\nun", "d") > 0 > KNOWN.gain("\nun", "t")
    assert KNOWN.gain("12 stra", "s") > KNOWN.gain("12 stra", "u")
    assert KNOWN.gain("\nता", "र") > 0


def test_case_is_left_to_the_picture() -> None:
    assert KNOWN.gain("\nUN", "D") == KNOWN.gain("\nun", "d") == KNOWN.gain("\nUn", "d")


def test_a_word_begins_after_whatever_is_no_letter_and_ends_before_it() -> None:
    begun = {KNOWN.gain(before, "u") for before in ("\n", "a ", "1", "(", "und-", "xyz. ")}
    assert len(begun) == 1
    ended = {KNOWN.gain("\nund", after) for after in ("\n", " ", ".", "7", ")")}
    assert len(ended) == 1
    assert min(ended) > 0 > KNOWN.gain("\nun", " ")


@pytest.mark.parametrize(("before", "character"), [("12", "3"), ("\n", "("), (" ", " "), ("1.", "5")])
def test_of_figures_and_signs_it_says_nothing(before: str, character: str) -> None:
    assert KNOWN.gain(before, character) == 0


@pytest.mark.parametrize(("before", "character"), [("\nu", "ł"), ("\nł", "u"), ("\nł", " "), ("\n", "ಕ")])
def test_of_letters_that_no_word_has_it_says_nothing(before: str, character: str) -> None:
    assert KNOWN.gain(before, character) == 0


def test_what_stands_before_a_strange_letter_is_no_part_of_the_word() -> None:
    assert KNOWN.gain("\nunłd", "u") == KNOWN.gain("xxxłd", "u")


def test_a_long_s_is_an_s_and_a_sharp_one_two() -> None:
    assert KNOWN.gain("\nſtra", "ſ") == KNOWN.gain("\nstra", "s")
    assert KNOWN.gain("\nſtra", "ß") == KNOWN.gain("\nstra", "s") + KNOWN.gain("\nstras", "s")
    assert KNOWN.gain("\nStraß", "e") == KNOWN.gain("\nstrass", "e") > 0
    assert KNOWN.gain("\n", "ſ") == KNOWN.gain("\n", "s") != 0


def test_words_of_a_language_that_was_met_weigh_more(tmp_path: Path) -> None:
    met = Words(KNOWN.counts, "a list", {"de": 80.5, "": 7})
    assert met.gain("\nun", "d") == pytest.approx(KNOWN.gain("\nun", "d") * words.MET / words.WEIGHT)
    again = Words.load(tmp_path, met.save(tmp_path))
    assert again.met == met.met
    assert again.gain("\nun", "d") == met.gain("\nun", "d")
    assert (tmp_path / words.OWN).exists()


def test_they_come_back_from_their_folder_and_always_as_the_same_bytes(tmp_path: Path) -> None:
    first = KNOWN.save(tmp_path)
    again = Words.load(tmp_path, first)
    assert (again.counts, again.source) == (KNOWN.counts, "a list")
    assert Words(dict(reversed(again.counts.items())), again.source).save(tmp_path) == first


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"words": {"a": 1}}',
        *(json.dumps({"source": "", "words": w}) for w in ({"a": 0}, {"": 1})),
        *(json.dumps({"source": "", "words": {"a": 1}, "met": met}) for met in ({"de": -1}, {"de": "7"}, 3)),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / words.FILE).write_text(content)
    with pytest.raises(Damaged, match=words.FILE):
        Words.load(tmp_path, Graph.of(tmp_path / words.FILE))
