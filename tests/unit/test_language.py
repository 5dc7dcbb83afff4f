"""What corrected texts are like: counted, smoothed, kept in a bundle's folder."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redpencil import language
from redpencil.bundle import Graph, Manifest
from redpencil.errors import Damaged
from redpencil.language import HALF, WEIGHT, Language, pieces_of
from redpencil.pixels import Preprocessing
from redpencil.types import Precision
from redpencil.words import Words

TEXTS = ["the cat sat", "the mat", "that"]


def test_what_fits_gains_and_what_does_not_loses() -> None:
    known = Language.of([*TEXTS, "no end"])
    assert known.gain("\nth", "e") > 0 > known.gain("\nth", "x")
    assert known.gain("\n", "the") == pytest.approx(
        known.gain("\n", "t") + known.gain("\nt", "h") + known.gain("\nth", "e")
    )


def test_texts_of_its_own_kind_neither_gain_nor_lose_by_their_length() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(["the ", "cat ", "sat ", "on ", "mat "], 8)) for _ in range(200)]
    learned, others = Language.of(texts[::2]), texts[1::2]
    per_character = sum(learned.gain("\n", t) for t in others) / sum(map(len, others))
    random = sum(learned.gain("\n", t[::-1]) for t in others) / sum(map(len, others))
    assert abs(per_character) < 0.05 < -random


def test_case_is_left_to_the_picture() -> None:
    known = Language.of(["TOTAL", "Total"])
    assert known.gain("\nTOT", "A") == known.gain("\ntot", "a") == known.gain("\ntOt", "A")


def test_its_opinion_counts_little_while_it_has_seen_little() -> None:
    assert Language.of([]).weight == 0
    assert Language.of([]).gain("\n", "a") == 0
    assert Language.of(["a" * (HALF - 1)]).weight == pytest.approx(WEIGHT / 2)
    assert Language.of(TEXTS).weight < Language.of(TEXTS * 9).weight < WEIGHT


@given(st.lists(st.text("abk ", max_size=12), max_size=6), st.lists(st.text("abk ", max_size=12), max_size=6))
def test_told_more_it_is_as_if_told_all_at_once(first: list[str], second: list[str]) -> None:
    bit_by_bit, at_once = Language.of(first).told(second), Language.of([*second, *first])
    assert bit_by_bit.pieces == at_once.pieces
    assert at_once.characters == sum(len(t) + 1 for t in [*first, *second])
    assert bit_by_bit.gain("\nab", "k") == pytest.approx(at_once.gain("\nab", "k"))


def test_a_text_costs_what_the_others_make_of_it() -> None:
    texts = ["alte drucke", "alte karten", "neue drucke"]
    known = Language.of(texts)
    assert known.cost("neue karten") < known.cost("neue kartxn")
    for text in texts:
        others = Language.of(t for t in texts if t != text)
        assert known.cost("alte drucke", own=text) == pytest.approx(others.cost("alte drucke"))


def test_it_says_what_it_has_been_told() -> None:
    known = Language.of(TEXTS)
    assert all(known.knows(text) for text in [*TEXTS, "THE MAT", ""][:-1])
    assert not known.knows("the cat")
    assert not Language.of([]).knows("")


def test_of_too_many_pieces_the_usual_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "MOST", 4)
    known = Language.of(["aaa", "aaa", "bcdefgh"])
    assert known.pieces == {"\na": 2, "\naa": 2, "\naaa": 2, "\naaa\n": 2}


def test_what_it_remembers_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    known, other = Language.of(TEXTS), Language.of(TEXTS)
    wanted = [other.gain("\n", text) for text in TEXTS]
    monkeypatch.setattr(language, "MOST", 3)
    assert [known.gain("\n", text) for text in TEXTS] == wanted
    assert len(known._known) <= 3


def manifest(**files: Graph) -> Manifest:
    return Manifest(Preprocessing(48, "gray", (0.5,), (0.5,)), ("a",), {}, Precision.FP32, **files)


def test_it_comes_back_from_its_folder_and_always_as_the_same_bytes(tmp_path: Path) -> None:
    first = Language.of(["ಕನ್ನಡ 12", 'a "b"']).save(tmp_path)
    again = Language.of_bundle(tmp_path, manifest(language=first))
    assert again
    assert again.pieces == Counter(Language.of(['a "b"', "ಕನ್ನಡ 12"]).pieces)
    assert again.save(tmp_path) == first
    assert Language.of_bundle(tmp_path, manifest()) is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"pieces": {"ab": 0}}', '{"pieces": {"a": 1}}', '{"pieces": {"ab": "1"}}']
)
def test_a_file_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / language.FILE).write_text(content)
    with pytest.raises(Damaged, match=language.FILE):
        Language.of_bundle(tmp_path, manifest(language=Graph.of(tmp_path / language.FILE)))


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    file = Language.of(TEXTS).save(tmp_path)
    (tmp_path / language.FILE).write_text('{"pieces": {"ab": 1}}')
    with pytest.raises(Damaged, match="hash"):
        Language.of_bundle(tmp_path, manifest(language=file))


def test_words_have_a_say_in_every_line_and_texts_in_lines_like_them(tmp_path: Path) -> None:
    words = Words({"matter": 5, "water": 2})
    known = Language.of(["no. 17", "no. 18"], words)
    files = {"language": known.save(tmp_path), "words": words.save(tmp_path)}
    again = Language.of_bundle(tmp_path, manifest(**files))
    assert again
    assert again.of_line(own=True) is again
    other = again.of_line(own=False)
    assert other
    assert other.gain("\nmatt", "e") == again.words.gain("\nmatt", "e") > 0 == other.gain("\nno. 1", "7")
    texts = Language.of(["no. 17", "no. 18"])
    assert again.gain("\nno. 1", "7") == texts.gain("\nno. 1", "7") > 0
    assert again.gain("\nn", "o") == pytest.approx(texts.gain("\nn", "o") + words.gain("\nn", "o"))
    assert texts.of_line(own=False) is None
    assert again.told(["more"]).words is again.words


def test_words_of_its_own_languages_stand_in_for_all_in_lines_like_its_texts(tmp_path: Path) -> None:
    words, own = Words({"water": 2, "wasser": 2}), Words({"wasser": 2}, met={"de": 60})
    known = Language(Language.of(["no. 17"]).pieces, words, own)
    files = {"language": known.save(tmp_path), "words": words.save(tmp_path), "own_words": own.save(tmp_path)}
    again = Language.of_bundle(tmp_path, manifest(**files))
    assert again
    other = again.of_line(own=False)
    assert other
    assert other.gain("\nwa", "t") == words.gain("\nwa", "t")
    texts = Language.of(["no. 17"])
    assert again.gain("\nwa", "s") == texts.gain("\nwa", "s") + own.gain("\nwa", "s")
    assert own.gain("\nwa", "s") > words.gain("\nwa", "s")
    assert again.told(["more"]).own_words is again.own_words


def test_of_too_many_pieces_the_new_ones_stay_and_no_script_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(language, "MOST", 60)
    full = Language.of(f"word{n} and" for n in range(40))
    assert len(full.pieces) == 60
    grown = full.told(["ಕನ್ನಡ"])
    assert grown.knows("ಕನ್ನಡ")
    both = Language.of([f"word{n} ಕ{n}ನ" for n in range(40)])
    assert any("ಕ" in piece for piece in both.pieces)
    assert any("w" in piece for piece in both.pieces)


def test_what_it_could_not_keep_whole_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"line {n} of {n * 7919} words" for n in range(60)]
    monkeypatch.setattr(language, "MOST", len(Language.of(texts).pieces) - 40)
    full = Language.of(texts)
    assert not all(set(pieces_of(text)) <= set(full.pieces) for text in texts)
    assert all(map(full.knows, texts))
    assert not full.knows("something else")


def test_what_was_not_kept_is_not_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of many texts is judged without itself, though few of its pieces were counted."""
    texts = [f"{n * 7919} {n * 104729}" for n in range(60)]
    monkeypatch.setattr(language, "MOST", 50)
    full = Language.of(texts)
    assert all(0 < full.cost(text, text) < 1000 for text in texts)
