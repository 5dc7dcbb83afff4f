"""The alphabet only ever grows at its end, and nothing is dropped from a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redpencil.direction import as_drawn
from redpencil.errors import BadInput
from redpencil.vocab import encode, grow

ALPHABETS = st.text(max_size=30).map(lambda s: tuple(dict.fromkeys(s)))


@given(ALPHABETS, st.lists(st.text(max_size=20), max_size=5))
def test_growing_keeps_every_class_where_it_was(alphabet: tuple[str, ...], texts: list[str]) -> None:
    grown = grow(alphabet, texts)
    assert grown[: len(alphabet)] == alphabet
    assert set(grown) == set(alphabet).union(*map(as_drawn, texts))
    assert len(grown) == len(set(grown))


@given(ALPHABETS, st.lists(st.text(max_size=20), max_size=5))
def test_growing_twice_is_growing_once(alphabet: tuple[str, ...], texts: list[str]) -> None:
    grown = grow(alphabet, texts)
    assert grow(grown, texts) == grown


def test_new_characters_come_sorted_whatever_the_order_of_the_texts() -> None:
    assert grow(("b",), ["za", "c"]) == grow(("b",), ["c", "az"]) == ("b", "a", "c", "z")


def test_classes_begin_at_one_because_zero_is_the_blank() -> None:
    assert encode("abba", ("a", "b")) == [1, 2, 2, 1]
    assert encode("", ("a",)) == []


def test_an_unknown_character_is_named_not_dropped() -> None:
    with pytest.raises(BadInput, match=r"'ſ' \(U\+017F\)"):
        encode("daſ", ("d", "a"))
