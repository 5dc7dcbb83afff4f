"""The words that are met most in some forty languages, from the wordfreq package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import version

from redpencil.words import Words, is_letter

OF = 10_000
"""Words of running text of each language; those that are met among so many count."""
UNSPACED = ("ja", "ko", "zh")
"""Its pieces of these are not what stands between spaces."""


def spelled(alphabet: Collection[str]) -> Words:
    """Those that an alphabet can spell."""
    letters = set(alphabet)
    counts = {word: often for word, often in _counted().items() if set(word) <= letters}
    return Words(counts, f"wordfreq {version('wordfreq')}, CC BY-SA 4.0")


@cache
def _counted() -> Mapping[str, int]:
    import wordfreq

    counts: Counter[str] = Counter()
    for language in sorted(set(wordfreq.available_languages("small")) - set(UNSPACED)):
        for word, share in wordfreq.get_frequency_dict(language, "small").items():
            if round(share * OF) and all(map(is_letter, word)):
                counts[word] += round(share * OF)
    return counts
