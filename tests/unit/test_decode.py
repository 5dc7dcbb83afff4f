"""CTC: steps to text."""

import numpy as np
import pytest

from redpencil.decode import ctc_greedy
from redpencil.errors import Damaged
from redpencil.types import LineText

ALPHABET = ("a", "b", "क्ष")


def read(*steps: tuple[int, float]) -> LineText:
    indices, probabilities = zip(*steps, strict=True) if steps else ((), ())
    return ctc_greedy(np.array(indices, np.int64), np.array(probabilities, np.float32), ALPHABET)


def test_equal_neighbours_are_one_character_and_a_blank_parts_them() -> None:
    assert read((1, 0.9), (1, 0.9), (0, 0.9), (1, 0.9), (2, 0.9)).text == "aab"


def test_a_character_is_as_sure_as_its_surest_step() -> None:
    assert read((1, 0.25), (1, 0.75), (0, 0.99), (2, 0.5)).char_confidence == (0.75, 0.5)


def test_the_line_is_as_sure_as_its_characters_are_on_average() -> None:
    assert read((1, 0.75), (2, 0.25)).confidence == 0.5


def test_blanks_alone_read_as_nothing_with_no_confidence() -> None:
    assert read((0, 1.0), (0, 1.0)) == LineText("", 0.0, ())


def test_no_steps_read_as_nothing() -> None:
    assert read() == LineText("", 0.0, ())


def test_every_code_point_of_an_entry_has_its_confidence() -> None:
    line = read((3, 0.5), (1, 1.0))
    assert line.text == "क्षa"
    assert line.char_confidence == (0.5, 0.5, 0.5, 1.0)


def test_confidence_stays_within_one() -> None:
    assert read((1, 1.0000001)).confidence == 1.0


def test_a_class_beyond_the_alphabet_is_damage_not_silence() -> None:
    with pytest.raises(Damaged, match="class 4"):
        read((1, 0.9), (4, 0.9))
