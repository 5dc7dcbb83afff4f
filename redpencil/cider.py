"""CIDEr-D, as the published evaluation code of COCO captions has it (n up to 4, sigma 6, times 10).

Captions are given as words, see `caption_words`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

Words = Sequence[str]
Ngram = tuple[str, ...]

ORDERS = (1, 2, 3, 4)
SIGMA = 6.0


@dataclass(frozen=True)
class Frequency:
    """In how many of so many images each n-gram occurs, in any of an image's references."""

    images: int
    counts: Mapping[Ngram, int]

    @classmethod
    def of(cls, references: Sequence[Sequence[Words]]) -> Frequency:
        found = (set(chain.from_iterable(ngrams(r, n) for r in refs for n in ORDERS)) for refs in references)
        return cls(len(references), Counter(chain.from_iterable(found)))

    def rarity(self, ngram: Ngram) -> float:
        return math.log(self.images) - math.log(max(1, self.counts.get(ngram, 0)))


@dataclass(frozen=True)
class Weighed:
    """A caption as CIDEr-D sees it: per order its n-grams, each counted and weighed by its rarity."""

    words: Words
    frequency: Frequency

    @cached_property
    def weights(self) -> list[dict[Ngram, float]]:
        counted = [Counter(ngrams(self.words, n)) for n in ORDERS]
        return [{g: count * self.frequency.rarity(g) for g, count in of.items()} for of in counted]

    @cached_property
    def norms(self) -> list[float]:
        return [math.sqrt(sum(w * w for w in weights.values())) for weights in self.weights]

    @property
    def length(self) -> int:
        """In bigrams, as the published code counts it."""
        return max(0, len(self.words) - 1)

    def likeness(self, true: Weighed) -> float:
        """0..1: the cosines of all orders on average, less where the length differs."""
        apart = self.length - true.length
        cosines = [self._cosine(true, i) for i in range(len(ORDERS))]
        return sum(cosines) / len(ORDERS) * math.exp(-(apart**2) / (2 * SIGMA**2))

    def _cosine(self, true: Weighed, i: int) -> float:
        """Saying an n-gram more often than the reference does brings nothing."""
        said, of = self.weights[i], true.weights[i]
        shared = sum(min(weight, of[g]) * of[g] for g, weight in said.items() if g in of)
        return shared / (self.norms[i] * true.norms[i]) if shared else 0.0


def scores(
    references: Sequence[Sequence[Words]], captions: Sequence[Words], frequency: Frequency
) -> list[float]:
    """Per image how like the caption is to its references, on average, times 10."""
    return [_score(refs, said, frequency) for refs, said in zip(references, captions, strict=True)]


def _score(references: Sequence[Words], caption: Words, frequency: Frequency) -> float:
    said = Weighed(caption, frequency)
    return 10 * sum(said.likeness(Weighed(r, frequency)) for r in references) / len(references)


def ngrams(caption: Words, n: int) -> list[Ngram]:
    return [tuple(caption[i : i + n]) for i in range(len(caption) - n + 1)]
