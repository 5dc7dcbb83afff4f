"""The words of the installed package, as a reader gets them."""

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
