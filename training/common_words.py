"""Words that are met most in some forty languages, from the package wordfreq, and the languages of texts."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.metadata import version

from redpencil.words import Words, is_letter

OF, OF_MET = 10_000, 300_000
"""Words of running text of each language, and of those that are met; what occurs among so many counts."""
UNSPACED = ("ja", "ko", "zh")
"""Its pieces of these are not what stands between spaces."""
SMALL_E = str.maketrans("\u0364", "\u0308")
"""How old print writes an umlaut, and new print."""
LEAST, ROUNDS = 0.05, 20
"""Share of the words below which a language is not met, and looks at all of them until that is known."""
FEWEST, MOSTLY = 50, 0.6
"""Words that must have been met, and how many of these must be known, before a language counts as met."""
UNKNOWN, RARE = "", 1e-7
"""Stands for no language at all, whose every word is as rare as that."""


def spelled(alphabet: Collection[str]) -> Words:
    """Those of all languages that an alphabet can spell."""
    return _listed(_counted(), alphabet)


def met(texts: Iterable[str]) -> dict[str, float]:
    """In how many words of these texts each language was met.

    A mixture of unigram models, its shares by expectation maximisation; UNKNOWN has what none knows.
    """
    words = Counter(word for text in texts for word in _words(text))
    known = {name: _shares(name) for name in _languages()}
    shares = {name: 1 / len(known) for name in known} | {UNKNOWN: 1.0}
    found: dict[str, float] = {}
    for _ in range(ROUNDS):
        found = defaultdict(float)
        for word, often in words.items():
            likely = {name: shares[name] * known[name].get(word, 0.0) for name in known}
            likely[UNKNOWN] = shares[UNKNOWN] * RARE
            total = sum(likely.values())
            for name, share in likely.items():
                found[name] += often * share / total
        whole = sum(found.values())
        shares = {name: often / whole for name, often in found.items()}
    return {name: round(often, 2) for name, often in found.items() if round(often, 2)}


def mostly(texts: Iterable[str]) -> str:
    """The language that was met most in these texts, UNKNOWN where none was."""
    found = {name: often for name, often in met(texts).items() if name != UNKNOWN}
    return max(found, key=lambda name: found[name], default=UNKNOWN)


def of_met(languages: Mapping[str, float], alphabet: Collection[str]) -> Words | None:
    """The words of all languages and more of those that were met, each by its share.

    None where too little is known.
    """
    whole = sum(languages.values())
    shares = {name: often / whole for name, often in languages.items() if name and often / whole >= LEAST}
    if whole < FEWEST or sum(shares.values()) < MOSTLY:
        return None
    counts = Counter(_counted())
    for name, share in shares.items():
        counts.update(_frequent(name, round(share * OF_MET)))
    return _listed(counts, alphabet, languages)


def _listed(
    counts: Mapping[str, int], alphabet: Collection[str], languages: Mapping[str, float] | None = None
) -> Words:
    letters = set(alphabet)
    spelled = {word: often for word, often in counts.items() if set(word) <= letters}
    return Words(spelled, f"wordfreq {version('wordfreq')}, CC BY-SA 4.0", languages)


@cache
def _counted() -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for language in _languages():
        counts.update(_frequent(language, OF))
    return counts


def _frequent(language: str, of: int) -> dict[str, int]:
    """Words that are met among so many of running text, and how often there."""
    often = {word: round(share * of) for word, share in _shares(language).items()}
    return {word: n for word, n in often.items() if n and all(map(is_letter, word))}


@cache
def _shares(language: str) -> Mapping[str, float]:
    import wordfreq

    shares: Mapping[str, float] = wordfreq.get_frequency_dict(language, "small")
    return shares


def _languages() -> list[str]:
    import wordfreq

    return sorted(set(wordfreq.available_languages("small")) - set(UNSPACED))


def _words(text: str) -> list[str]:
    """As the package spells them: without case, ß and ſ as ss and s."""
    plain = unicodedata.normalize("NFC", text.casefold().translate(SMALL_E))
    return re.findall(r"[^\W\d_]+", plain)
