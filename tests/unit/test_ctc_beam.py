"""CTC with a language: picture and language together."""

from itertools import product
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from redpencil import ctc_beam
from redpencil.ctc_beam import ctc
from redpencil.decode import ctc_greedy
from redpencil.errors import Damaged
from redpencil.language import EDGE, Language
from redpencil.types import LineText

ALPHABET = ("a", "b", "क्ष")
TALK = Language.of(["abba", "baab", "aक्ष"] * 200)
Steps = list[dict[int, float]]


def arrays(steps: Steps) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Each step's classes, the best first; what it does not name has probability 0."""
    most = max(len(step) for step in steps)
    ranked = [sorted(step.items(), key=lambda item: -item[1]) for step in steps]
    padded = [row + [(0, 0.0)] * (most - len(row)) for row in ranked]
    return np.array([[c for c, _ in row] for row in padded]), np.array(
        [[p for _, p in row] for row in padded], np.float32
    )


def read(steps: Steps, language: Language | None = TALK) -> LineText:
    return ctc(*arrays(steps), ALPHABET, language)


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(c for c, before in zip(path, (0, *path), strict=False) if c and c != before)


def best_of_all(steps: Steps, language: Language) -> set[str]:
    """The best texts by summing over every path there is."""
    likely: dict[tuple[int, ...], float] = {}
    for path in product(*steps):
        p = float(np.prod([step[c] for step, c in zip(steps, path, strict=True)]))
        likely[collapsed(path)] = likely.get(collapsed(path), 0.0) + p
    scores = {}
    for classes, p in likely.items():
        text = "".join(ALPHABET[c - 1] for c in classes)
        scores[text] = log(p) + language.gain(EDGE, text + EDGE)
    return {text for text, score in scores.items() if score > max(scores.values()) - 1e-4}


step = st.lists(st.integers(1, 20), min_size=4, max_size=4).map(
    lambda parts: {c: part / sum(parts) for c, part in enumerate(parts)}
)


@settings(max_examples=60)
@given(st.lists(step, min_size=1, max_size=5))
def test_it_finds_the_best_of_all_texts(steps: Steps) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ctc_beam, "WIDTH", 10_000)
        patched.setattr(ctc_beam, "NEAR", 1_000.0)
        assert read(steps).text in best_of_all(steps, TALK)


def test_where_the_picture_is_in_doubt_the_language_decides() -> None:
    doubt: Steps = [{1: 1.0}, {2: 1.0}, {0: 1.0}, {2: 0.45, 1: 0.55}, {1: 1.0}]
    assert read(doubt, None).text == "aba", "the picture alone, in which a stays a"
    assert read(doubt).text == "abba"
    assert read(doubt).char_confidence == (1.0, 1.0, 0.45, 1.0)


def test_where_the_picture_is_sure_the_language_has_no_say() -> None:
    sure: Steps = [{2: 1.0}, {3: 0.995, 1: 0.005}, {2: 1.0}]
    assert read(sure) == read(sure, None)
    assert read(sure).text == "bक्षb"


def test_a_letter_twice_needs_a_blank_between() -> None:
    assert read([{1: 0.9, 2: 0.1}, {1: 0.9, 2: 0.1}]).text == "a"
    assert read([{1: 1.0}, {2: 0.9, 1: 0.1}, {0: 0.9, 2: 0.1}, {2: 0.9, 1: 0.1}, {1: 1.0}]).text == "abba"


def test_one_class_a_step_is_read_as_it_is() -> None:
    classes, sure = arrays([{1: 0.5}, {0: 0.9}, {1: 0.6}])
    assert ctc(classes, sure, ALPHABET, TALK) == ctc_greedy(classes[:, 0], sure[:, 0], ALPHABET)
    assert ctc(classes[:, 0], sure[:, 0], ALPHABET, TALK).text == "aa"


def test_no_steps_read_as_nothing() -> None:
    assert ctc(np.zeros((0, 4), np.int64), np.zeros((0, 4), np.float32), ALPHABET, TALK) == LineText(
        "", 0.0, ()
    )


def test_a_long_line_of_doubt_neither_vanishes_nor_overflows() -> None:
    steps: Steps = [{1: 0.3, 2: 0.3, 3: 0.2, 0: 0.2}] * 2_000
    assert len(read(steps, Language.of(["abक्ष" * 100])).text) > 100


def test_an_odd_class_means_a_damaged_bundle() -> None:
    with pytest.raises(Damaged, match="class 4"):
        read([{1: 0.5, 4: 0.5}])


def test_of_two_equal_letters_each_is_as_sure_as_its_own_steps() -> None:
    steps: Steps = [{1: 0.99, 2: 0.01}, {2: 0.55, 0: 0.45}, {0: 0.98, 2: 0.02}, {2: 0.99, 0: 0.01}]
    found = read(steps, Language.of([]))
    assert found.text == "abb"
    assert found.char_confidence == pytest.approx((0.99, 0.55, 0.99), abs=1e-4)
