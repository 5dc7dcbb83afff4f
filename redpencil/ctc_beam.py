"""CTC with a language: of all that a line may say, the text that picture and language together prefer.

Prefix beam search (Hannun et al., First-pass large vocabulary continuous speech recognition using
bi-directional recurrent DNNs, 2014), over the likeliest classes of each step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log
from typing import Any

from numpy.typing import NDArray

from redpencil.decode import ctc_greedy, spellable, spelled
from redpencil.language import EDGE, Language
from redpencil.ngram import ORDER
from redpencil.types import LineText

LEAST = 0.01
"""Probability below which a class of a step is not followed."""
WIDTH, NEAR = 16, 3.0
"""Beginnings of a text that are followed, and how many nats they may be behind the best one."""
LIFT = 1.5
"""Nats that the next character may lift a beginning by; what lies deeper is not looked at."""


class _Prefix:
    """A beginning of the text: its last character's class, all before, and what the language says of it.

    The character is as sure as the surest step that says it, where it is more likely begun than repeated.
    """

    __slots__ = ("before", "gain", "klass", "longer", "sure", "tail")

    def __init__(self, before: _Prefix | None, klass: int, tail: str, gain: float) -> None:
        self.before, self.klass, self.tail, self.gain = before, klass, tail, gain
        self.longer: dict[int, _Prefix] = {}
        self.sure = 0.0


@dataclass(slots=True)
class _Way:
    """What is followed, and how probable it is: with a blank at its end, and without."""

    prefix: _Prefix
    blank: float
    own: float

    @property
    def likely(self) -> float:
        return self.blank + self.own

    @property
    def score(self) -> float:
        return log(self.likely) + self.prefix.gain


def ctc(
    classes: NDArray[Any], probabilities: NDArray[Any], alphabet: tuple[str, ...], language: Language | None
) -> LineText:
    """Read the best class of each step, [T], or its likeliest classes, [T,K] with the best first.

    Without a language, or where no step leaves a choice, as `decode.ctc_greedy` does. A character is as
    sure as the surest step that says it.
    """
    if classes.ndim == 1:
        return ctc_greedy(classes, probabilities, alphabet)
    if language is None or not (probabilities[:, 1:] > LEAST).any():
        return ctc_greedy(classes[:, 0], probabilities[:, 0], alphabet)
    spellable(classes, alphabet)
    search = _Search(alphabet, language)
    for step, sure in zip(classes.tolist(), probabilities.tolist(), strict=True):
        search.hear([(c, p) for c, p in zip(step, sure, strict=True) if p > LEAST] or [(step[0], sure[0])])
    return search.text()


class _Search:
    """The ways that are followed, best first."""

    def __init__(self, alphabet: tuple[str, ...], language: Language) -> None:
        self.alphabet, self.language = alphabet, language
        self.ways = [_Way(_Prefix(None, 0, EDGE, 0.0), 1.0, 0.0)]
        self.standing: dict[_Prefix, float] = {}

    def hear(self, classes: list[tuple[int, float]]) -> None:
        """Go on by one step with the classes that it may be and their probabilities."""
        if [c for c, _ in classes] == [0]:
            self.ways = [_Way(way.prefix, way.likely, 0.0) for way in self.ways]
            return
        blank: dict[_Prefix, float] = defaultdict(float)
        own: dict[_Prefix, float] = defaultdict(float)
        self.standing = {way.prefix: way.likely for way in self.ways}
        least = self.ways[0].score + log(max(p for _, p in classes)) - NEAR - LIFT
        for way in self.ways:
            enough = exp(min(0.0, least - way.score))
            for klass, p in classes:
                if p >= enough:
                    self._one(way, klass, p, blank, own)
        self.ways = _best(_Way(prefix, blank[prefix], own[prefix]) for prefix in {**blank, **own})

    def _one(
        self, way: _Way, klass: int, p: float, blank: dict[_Prefix, float], own: dict[_Prefix, float]
    ) -> None:
        if klass == 0:
            blank[way.prefix] += way.likely * p
        elif klass != way.prefix.klass:
            self._begin(way.prefix, klass, p, way.likely * p, own)
        else:  # the same character still, or, behind a blank, once more
            if way.own >= way.blank:
                way.prefix.sure = max(way.prefix.sure, p)
            own[way.prefix] += way.own * p
            if way.blank:
                self._begin(way.prefix, klass, p, way.blank * p, own)

    def _begin(self, prefix: _Prefix, klass: int, p: float, share: float, own: dict[_Prefix, float]) -> None:
        longer = self._longer(prefix, klass)
        own[longer] += share
        if share > self.standing.get(longer, 0.0):
            longer.sure = p

    def _longer(self, prefix: _Prefix, klass: int) -> _Prefix:
        longer = prefix.longer.get(klass)
        if longer is None:
            character = self.alphabet[klass - 1]
            gain = prefix.gain + self.language.gain(prefix.tail, character)
            longer = _Prefix(prefix, klass, (prefix.tail + character)[1 - ORDER :], gain)
            prefix.longer[klass] = longer
        return longer

    def text(self) -> LineText:
        """What the best way says, once it is known that the text ends here."""
        prefix = max(self.ways, key=lambda way: way.score + self.language.gain(way.prefix.tail, EDGE)).prefix
        found: list[tuple[str, float]] = []
        while prefix.before:
            found.append((self.alphabet[prefix.klass - 1], prefix.sure))
            prefix = prefix.before
        return spelled([c for c, _ in found[::-1]], [p for _, p in found[::-1]])


def _best(ways: Iterable[_Way]) -> list[_Way]:
    """Those that are followed, their probabilities as shares of the likeliest one's.

    Of ways with the same last characters only the best can win, since all that comes is the same to them.
    """
    ranked = sorted(((way.score, way) for way in ways if way.likely), key=lambda ranked: -ranked[0])
    near: dict[str, _Way] = {}
    for score, way in ranked:
        if score < ranked[0][0] - NEAR or len(near) == WIDTH:
            break
        near.setdefault(way.prefix.tail, way)
    most = max(way.likely for way in near.values())
    return [_Way(way.prefix, way.blank / most, way.own / most) for way in near.values()]
