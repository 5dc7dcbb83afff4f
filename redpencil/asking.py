"""Which of the waiting lines to ask people about: those whose correction should teach the most.

A line is worth what is doubtful in it and new: each pair and triple of neighbouring characters
counts by how unsure the reader was of them, and by less the more of the same has been asked already.
So are documents. The sum is submodular, therefore picking the best line again and again is
nearly as good as the best set, and lines like those already picked fall behind by themselves.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log1p

LEAST, MOST = 0.02, 0.6
"""Doubt of one character, 0..1: even a sure one is worth something, and noise is not worth everything."""
KNOWN = 0.3
"""Doubt after which more of the same is worth half; as much counts a line that was corrected already."""
EMPTY = 4
"""Characters that a line in which nothing was read is taken to hold."""
DOCUMENT, DOCUMENTS = 0.1, 10.0
"""What a doubtful character adds to its document's doubt; what documents weigh beside characters."""

Features = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A line that waits, as it was read; `place` names it, `document` is the group of its image."""

    place: tuple[str, str]
    text: str
    char_confidence: tuple[float, ...]
    document: str


def choose(candidates: Sequence[Candidate], n: int, asked: Iterable[str] = ()) -> list[Candidate]:
    """The n lines to ask about, the most useful first; `asked` are readings corrected of late."""
    known: defaultdict[str, float] = defaultdict(float)
    for text in asked:
        for feature in _parts(text):
            known[feature] += KNOWN
    features = [_features(c) for c in candidates]
    # Gains only ever shrink: one that is still ahead after it was counted anew is the largest.
    queue = [(-_gain(known, f), i) for i, f in enumerate(features)]
    heapq.heapify(queue)
    chosen: list[Candidate] = []
    while queue and len(chosen) < n:
        _, i = heapq.heappop(queue)
        gain = _gain(known, features[i])
        if queue and gain < -queue[0][0]:
            heapq.heappush(queue, (-gain, i))
            continue
        chosen.append(candidates[i])
        for feature, weight in features[i].items():
            known[feature] += weight
    return chosen


def _gain(known: Mapping[str, float], features: Features) -> float:
    """What the features add to what is known, which is worth its logarithm."""
    return sum(
        (DOCUMENTS if f[0] == "\n" else 1.0) * log1p(w / (KNOWN + known.get(f, 0.0)))
        for f, w in features.items()
    )


def _features(line: Candidate) -> Features:
    """What a line shows, with the doubt in it."""
    doubts = [min(MOST, max(LEAST, 1 - p)) for p in line.char_confidence] or [MOST] * EMPTY
    found: defaultdict[str, float] = defaultdict(float)
    for start, part in _places(line.text):
        found[part] += sum(doubts[start : start + len(part)]) / len(part)
    found[f"\n{line.document}"] += DOCUMENT * sum(doubts)  # no text holds a line break
    return found


def _parts(text: str) -> Iterator[str]:
    return (part for _, part in _places(text))


def _places(text: str) -> Iterator[tuple[int, str]]:
    """Single characters, pairs and triples with where they start."""
    for size in (1, 2, 3):
        for start in range(len(text) - size + 1):
            yield start, text[start : start + size]
