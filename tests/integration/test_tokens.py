"""Tokenizers that are trained on the texts at hand."""

import subprocess
import sys

import pytest

from redpencil.errors import BadInput
from training import tokens

TEXTS = ["A man rides a horse .", "two horses, and THREE men", "tiếng Việt có dấu", "rides the waves"] * 3
MAKE = "from training import tokens; t = tokens.{}({!r}, {}); print(tokens.fingerprint(t))"


@pytest.mark.parametrize(("kind", "rest"), [("word_pieces", "60, True"), ("byte_pieces", "300")])
def test_every_process_makes_the_same_tokens(kind: str, rest: str) -> None:
    code = MAKE.format(kind, TEXTS, rest)
    said = {subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(3)}
    assert len(said) == 1


def test_words_come_back_lower_cased_and_rare_ones_in_letters() -> None:
    tokenizer = tokens.word_pieces(TEXTS, 70, lower=True)
    assert tokenizer.decode(tokenizer.encode("A man rides THE horse.").ids) == "a man rides the horse."
    assert tokenizer.decode(tokenizer.encode("nomads").ids) == "nomads"


def test_byte_pieces_keep_every_character() -> None:
    tokenizer = tokens.byte_pieces(TEXTS, 300)
    for text in ("Tiếng  Việt", "ಕನ್ನಡ ſ"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_growing_adds_at_the_end_what_cannot_be_spelled() -> None:
    tokenizer = tokens.word_pieces(["a cat"], 50, lower=True)
    before = tokens.fingerprint(tokenizer)
    with pytest.raises(BadInput, match="2 words cannot be spelled"):
        tokens.grown(tokenizer, ["žluťoučký kůň"], most=1)
    after = tokens.fingerprint(tokens.grown(tokenizer, ["a žluťoučký cat"]))
    assert after[: len(before)] == before
    assert set(after) - set(before) == {"žluťoučký"}


def test_a_word_that_was_added_is_no_part_of_others() -> None:
    tokenizer = tokens.grown(tokens.word_pieces(["holt"], 50, lower=True), ["à"])
    tokens.grown(tokenizer, ["holà"])
    assert tokenizer.decode(tokenizer.encode("holà").ids) == "holà"


def test_where_no_spaces_are_written_letters_are_words_and_none_come_back() -> None:
    tokenizer = tokens.word_pieces(["一只红鸟", "两只鸟 and a bird", "นกสีแดงตัวหนึ่ง"], 80, lower=True)
    for said in ("两只红鸟", "a bird 鸟", "นกตัวหนึ่ง"):
        encoded = tokenizer.encode(said)
        assert tokens.UNKNOWN not in encoded.tokens
        assert tokenizer.decode(encoded.ids) == said.replace(" 鸟", "鸟")
    grown = tokens.grown(tokenizer, ["一只猫 sleeps"])
    assert grown.get_vocab_size() == tokenizer.get_vocab_size()
    assert "猫" in tokens.fingerprint(grown)
    assert "一只猫" not in tokens.fingerprint(grown)
    assert grown.decode(grown.encode("一只红猫").ids) == "一只红猫"


def test_no_text_is_refused() -> None:
    with pytest.raises(BadInput, match="vocabulary would be empty"):
        tokens.word_pieces(["  "], 10, lower=True)
    with pytest.raises(BadInput, match="vocabulary would be empty"):
        tokens.byte_pieces([], 10)
