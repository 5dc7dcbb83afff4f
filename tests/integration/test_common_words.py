"""The words of the installed package, as a reader gets them."""

import pytest

from training import common_words


def test_words_are_those_that_an_alphabet_can_spell() -> None:
    latin = common_words.spelled("abcdefghijklmnopqrstuvwxyz").counts
    assert latin["the"] > latin["house"] > 0
    assert not {"für", "он", "don't", "3d"} & latin.keys()
    more = common_words.spelled("abcdefghijklmnopqrstuvwxyzüон").counts
    assert more.keys() > latin.keys()
    assert {"für", "он"} <= more.keys()


def test_scripts_that_write_vowels_with_marks_have_whole_words() -> None:
    assert "में" in common_words.spelled("मेंकहै").counts


def test_the_same_letters_give_the_same_words() -> None:
    assert common_words.spelled("theo").counts == common_words.spelled(("o", "e", "h", "t")).counts


GERMAN = ["Daß die Straße unter dem Waſſer liegt, hat er geſagt,", "und ſie haͤtte es niemals geglaubt."] * 4
LATIN = "abcdefghijklmnopqrstuvwxyzäöüß"


def test_the_language_of_texts_is_met_in_their_words_in_old_print_too() -> None:
    met = common_words.met(GERMAN)
    assert max(met, key=met.__getitem__) == "de"
    assert sum(met.values()) == pytest.approx(4 * 16, abs=1)
    words = common_words.of_met(met, LATIN)
    assert words
    assert words.met == met
    of_all = common_words.spelled(LATIN).counts
    assert words.counts["wasser"] > 5 * of_all["wasser"]
    assert words.counts["geglaubt"] > 0 == of_all.get("geglaubt", 0)
    assert words.counts["olarak"] == of_all["olarak"]


def test_several_languages_may_be_met() -> None:
    english = ["the house of the other people was never found again by anyone"] * 5
    both = common_words.met([*GERMAN, *english])
    words = common_words.of_met(both, LATIN)
    assert words
    assert {"wasser", "people"} <= words.counts.keys()
    assert both["de"] > 50
    assert both["en"] > 50


@pytest.mark.parametrize("texts", [[], ["ಕನ್ನಡ ಸಾಹಿತ್ಯ"] * 40, ["17.50 x 3"] * 40, ["the house of the people"]])
def test_where_few_words_are_known_or_all_are_strange_no_language_is_met(texts: list[str]) -> None:
    assert common_words.of_met(common_words.met(texts), LATIN) is None
