"""Counts of pieces, smoothed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redpencil.ngram import ORDER, UNHEARD, NGram, fold, pieces_of


def counted(*texts: str) -> NGram:
    return NGram(Counter(piece for text in texts for piece in pieces_of(text, "\n")))


def test_a_character_is_as_likely_as_witten_and_bell_say() -> None:
    """Counts by hand: "ab" and "ac" with their edges are a, b, edge, a, c, edge."""
    known = counted("ab", "ac")
    alone = (2 + 4 * UNHEARD) / (6 + 4)  # "a" among all six; four different ones
    assert known.probability("", "a") == pytest.approx(alone)
    assert known.probability("\n", "a") == pytest.approx((2 + 1 * alone) / (2 + 1))
    b = (1 + 4 * UNHEARD) / (6 + 4)
    behind_a = (1 + 2 * b) / (2 + 2)
    assert known.probability("a", "b") == pytest.approx(behind_a)
    assert known.probability("\na", "b") == pytest.approx((1 + 2 * behind_a) / (2 + 2))
    assert known.probability("xa", "b") == known.probability("a", "b"), "never seen: as if it were shorter"


@given(st.text("ab", max_size=4), st.lists(st.text("ab", min_size=1, max_size=9), min_size=1))
def test_all_that_may_follow_is_certain_together(before: str, texts: list[str]) -> None:
    known = counted(*texts)
    seen = set("".join(texts)) | {"\n"}
    total = sum(known.probability(before, c) for c in seen)
    assert total <= 1 + 3 * UNHEARD
    more = sum(counted(*texts * 9).probability(before, c) for c in seen)
    assert more == pytest.approx(1, abs=0.2)
    assert more > total


def test_a_piece_ends_at_every_character_and_at_the_end() -> None:
    assert pieces_of("ab", "|") == ["|a", "|ab", "|ab|"]
    assert {len(piece) for piece in pieces_of("abcdefgh", "|")[ORDER - 2 :]} == {ORDER}


def test_its_surprise_is_what_its_pieces_cost_the_others() -> None:
    texts = ["ab", "ac", "ab"]
    pieces = [piece for text in texts for piece in pieces_of(text, "\n")]
    alone = [counted(*texts).cost([piece], own=[piece]) for piece in pieces]
    assert counted(*texts).surprise == pytest.approx(sum(alone) / len(alone))
    assert NGram({}).surprise == 0


def test_folded_it_is_as_long_as_before() -> None:
    assert fold("İI ÄΣ") == "İi äσ"
