"""Tokenizers: trained on the texts at hand, out of a file or folder, or a bundle's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from redpencil.bundle import Manifest, read_graph
from redpencil.caption_words import UNSPACED
from redpencil.errors import BadInput, Damaged
from redpencil.text import LIMIT

PAD, START, END, UNKNOWN = "[PAD]", "[START]", "[END]", "[UNK]"
SPECIAL = [PAD, START, END, UNKNOWN]
_LETTERS = pre_tokenizers.Split(Regex(UNSPACED + r"\p{M}*"), "isolated")
_WORDS = pre_tokenizers.BertPreTokenizer()
EMPTY = "the vocabulary would be empty: no image has a text"


def word_pieces(texts: Iterable[str], size: int, lower: bool) -> Tokenizer:
    """WordPiece over the `size` most frequent words and all characters; lower-casing where wanted.

    The library's trainer numbers its pieces anew in every process; workers, and a run that goes on
    after it was killed, need the same ones, so these are counted here.
    """
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lower else [])]
    normal, cut = normalizers.Sequence(steps), pre_tokenizers.Sequence([_LETTERS, _WORDS])
    words = Counter(w for t in texts for w, _ in cut.pre_tokenize_str(normal.normalize_str(t)))
    if not words:
        raise BadInput(EMPTY)
    letters = sorted({c for word in words for c in word})
    frequent = sorted(words, key=lambda word: (-words[word], word))
    pieces = dict.fromkeys([*SPECIAL, *letters, *(f"##{c}" for c in letters), *frequent])
    vocabulary = {piece: n for n, piece in enumerate(list(pieces)[: max(size, 4 + 2 * len(letters))])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=LIMIT))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normal, cut
    joined = decoders.Replace(Regex(f"^ (?={UNSPACED})"), "")
    tokenizer.decoder = decoders.Sequence([decoders.WordPiece(cleanup=True), joined])
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def byte_pieces(texts: Iterable[str], size: int) -> Tokenizer:
    """A byte-level BPE tokenizer, which can spell everything: case, space and any script are kept."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    return trained(tokenizer, trainer, texts)


def trained(tokenizer: Tokenizer, trainer: trainers.Trainer, texts: Iterable[str]) -> Tokenizer:
    """BadInput where the texts hold nothing to learn pieces from."""
    given = [text for text in texts if text.strip()]
    if not given:
        raise BadInput(EMPTY)
    tokenizer.train_from_iterator(given, trainer)
    return tokenizer


def plain(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text alone: what looks like a special token in it is spelled like the rest."""
    tokenizer.encode_special_tokens = True
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = False
    return ids


def of_file(path: Path) -> Tokenizer:
    """A `tokenizer.json`, or the one in a folder; BadInput says what is wrong."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise BadInput(f"there is no tokenizer at {file}; save one there with `tokenizers` or transformers")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library's errors share no base of their own
        raise BadInput(f"{file} is not a tokenizer: {error}") from error


def of_bundle(folder: Path) -> Tokenizer:
    """The tokenizer of an autoregressive bundle."""
    file = Manifest.load(folder).tokenizer
    if file is None:
        raise Damaged(f"the bundle {folder} has no tokenizer")
    return Tokenizer.from_str(read_graph(folder, file).decode("utf-8"))


def grown(tokenizer: Tokenizer, texts: Iterable[str], most: int = 20_000) -> Tokenizer:
    """The tokenizer with the words that it cannot spell added at its end, so that ids never change.

    They stand for whole words alone, never for a part of one. BadInput where there are more than `most`.
    """
    unknown = tokenizer.token_to_id(UNKNOWN)
    if unknown is None:
        return tokenizer
    words = {w for t in texts for w in _whole(t) if unknown in tokenizer.encode(w).ids}
    if len(words) > most:
        raise BadInput(
            f"{len(words)} words cannot be spelled with the champion's vocabulary, and at most {most} are "
            "added to one: train another family, such as vit_gated, whose pieces spell everything"
        )
    new = [w for w in sorted(words) if tokenizer.token_to_id(w) is None]
    tokenizer.add_tokens([AddedToken(w, single_word=not re.match(UNSPACED, w)) for w in new])
    return tokenizer


def _whole(said: str) -> list[str]:
    """What of a text may become a token of its own: words, and letters of scripts without spaces."""
    return [w for part, _ in _LETTERS.pre_tokenize_str(said) for w in part.split()]


def ends(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of what begins and what ends a text, in a tokenizer that was trained here."""
    start, end = (tokenizer.token_to_id(token) for token in (START, END))
    assert start is not None  # both are SPECIAL
    assert end is not None
    return start, end


def fingerprint(tokenizer: Tokenizer) -> tuple[str, ...]:
    """What a checkpoint must agree on: every token, in order."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return tuple(sorted(vocabulary, key=vocabulary.__getitem__))
