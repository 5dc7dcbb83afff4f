"""Words of several syllables, as libraries for Vietnamese find them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from importlib import import_module

from redpencil.errors import BadInput

SEGMENTERS = {"underthesea": "underthesea", "spacy": "spacy pyvi"}  # and what to install for them


def segmenter(name: str) -> Callable[[str], list[str]]:
    """What cuts a text into words, also where these have several syllables."""
    if name not in SEGMENTERS:
        raise BadInput(f"words must be one of {', '.join(SEGMENTERS)} or empty, not {name!r}")
    try:
        module = import_module(name)
        if name == "underthesea":
            return lambda text: list(module.word_tokenize(text))
        cut = module.blank("vi")
        return lambda text: [word.text for word in cut(text)]
    except ImportError as error:
        raise BadInput(f"words={name} needs `pip install {SEGMENTERS[name]}`: {error}") from error


def compounds(texts: Iterable[str], cut: Callable[[str], list[str]], most: int) -> list[str]:
    """The most frequent words with a space inside that come at least twice."""
    count = Counter(word for text in texts for word in cut(text) if " " in word.strip())
    return [word for word, times in count.most_common(most) if times > 1]
