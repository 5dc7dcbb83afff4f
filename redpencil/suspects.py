"""How likely each correction is wrong, judged by readers that did not learn from it.

Three things speak against a text. It may not be what the picture shows at all: then it fits the
picture hardly better than the texts of other lines do. It may have a slip: then the readers are sure
of something else in a few places, and so is the spelling of the other corrections. And what was said
of the place before may fit better. Each is held against what is usual in the document and among all
lines, because in a script that the readers hardly know right corrections look odd as well; and the
reader who finds least against a text speaks for it. An author whose corrections were often wrong is
trusted less, shrunk towards everybody.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp, isfinite, log, log1p, sqrt
from statistics import fmean, median

from redpencil.language import Language

BOUND = 0.5
"""From this score on a correction is left out of training until a person has looked at it."""

# Chosen on one half of the documents of six sets (benchmarks/suspects.py reports the other half).
WORDS = 0.3  # nats of spelling per nat of the picture
USUAL, SHARPNESS, NEUTRAL = 4.0, 5.0, 1.0
MISFIT, MOST = 0.4, 4.0
SHRINK_LINES, SHRINK_AUTHOR = 10, 20
CLUELESS = 0.4  # median misfit, from which a reader knows too little to speak for a text
SURELY = 0.9  # quantile above which a line says nothing about what is usual
NO_ROOM = 1e4  # nats of a text that is too long for the picture


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one reader makes of a line. Costs are nats, given the picture: minus the log probability.

    `others` are costs of texts of other lines about as long, `near` those of neighbours, `earlier`
    of what was stated of this place before.
    """

    reading: str
    reading_cost: float
    cost: float
    others: Sequence[float] = ()
    near: Mapping[str, float] = field(default_factory=dict)
    earlier: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """A corrected line and what the readers, who did not learn from it, make of it."""

    correction: str
    author: str
    document: str
    text: str
    opinions: Sequence[Opinion]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """`score` 0..1 is how likely a correction is wrong; `why` says in words what speaks against it."""

    correction: str
    score: float
    why: str


@dataclass(frozen=True, slots=True)
class _Case:
    """What speaks against one text: `slip` and `conflict` in nats, `misfit` 0 (as the reading) to 1."""

    slip: float
    misfit: float
    conflict: float


def weigh(seen: Sequence[Seen], settled: Mapping[str, tuple[int, int]] | None = None) -> list[Suspicion]:
    """The suspicion of each, in order. `settled`: how many doubts about an author were wrong and right."""
    if not seen:
        return []
    seen = _by_those_who_can_read(seen)
    spelling = Language.of(s.text for s in seen)
    cases = [_case(s, spelling) for s in seen]
    slips = _usual([c.slip for c in cases], seen)
    misfits = _usual([c.misfit for c in cases], seen)
    odds = [SHARPNESS * (_against(*of) - NEUTRAL) for of in zip(cases, slips, misfits, strict=True)]
    trust = _trust(seen, [_share(o) for o in odds], settled or {})
    return [
        Suspicion(s.correction, round(_share(o + t), 6), _why(s, case))
        for s, case, o, t in zip(seen, cases, odds, trust, strict=True)
    ]


def _by_those_who_can_read(seen: Sequence[Seen]) -> list[Seen]:
    """Without the opinions of a reader to whom most texts are as good as any, where another knows more."""
    readers = range(max(len(s.opinions) for s in seen))
    clueless = [median(_misfit(s.opinions[r]) for s in seen if len(s.opinions) > r) for r in readers]
    bar = max(CLUELESS, min(clueless))
    return [
        replace(s, opinions=[o for o, m in zip(s.opinions, clueless, strict=False) if m <= bar]) for s in seen
    ]


def _case(s: Seen, spelling: Language) -> _Case:
    """By the reader who finds least against the text."""
    own, size = spelling.cost(s.text, s.text), sqrt(max(1, len(s.text)))

    def nats(cost: float, other_cost: float, other: str) -> float:
        return (min(cost, NO_ROOM) - other_cost + WORDS * (own - spelling.cost(other, s.text))) / size

    slips = [nats(o.cost, o.reading_cost, o.reading) for o in s.opinions]
    rivals = [max((nats(o.cost, c, text) for text, c in o.earlier.items()), default=0.0) for o in s.opinions]
    return _Case(max(0.0, min(slips)), min(map(_misfit, s.opinions)), max(0.0, min(rivals)))


def _misfit(o: Opinion) -> float:
    """Where the cost of the text lies between that of the reading (0) and that of other texts (1)."""
    if not o.others:
        return 0.0
    usual = median(min(cost, NO_ROOM) for cost in o.others)
    return min(1.2, (min(o.cost, NO_ROOM) - o.reading_cost) / max(1.0, usual - o.reading_cost))


def _usual(values: Sequence[float], seen: Sequence[Seen]) -> list[float]:
    """What is usual in each line's document without the line itself, shrunk towards all lines."""
    most = sorted(values)[int(SURELY * (len(values) - 1))]
    kept = [min(v, most) for v in values]
    everywhere, documents = fmean(kept), defaultdict[str, list[float]](list)
    for s, v in zip(seen, kept, strict=True):
        documents[s.document].append(v)
    return [
        (sum(documents[s.document]) - v + SHRINK_LINES * everywhere)
        / (len(documents[s.document]) - 1 + SHRINK_LINES)
        for s, v in zip(seen, kept, strict=True)
    ]


def _against(case: _Case, usual_slip: float, usual_misfit: float) -> float:
    slip = log1p(case.slip / (2 + USUAL * usual_slip))
    misfit = 3 * (case.misfit - MISFIT - usual_misfit) / max(0.2, 1 - usual_misfit)
    return min(MOST, max(slip, misfit) + min(1.5, case.conflict / 2))


def _trust(
    seen: Sequence[Seen], shares: Sequence[float], settled: Mapping[str, tuple[int, int]]
) -> list[float]:
    """For each line how much less (above 0) or more its author is trusted than everybody, in log odds.

    A line's own share does not count for itself.
    """
    lines, wrong = defaultdict[str, float](float), defaultdict[str, float](float)
    for author, (rights, wrongs) in settled.items():
        lines[author], wrong[author] = rights + wrongs, wrongs
    for s, share in zip(seen, shares, strict=True):
        lines[s.author], wrong[s.author] = lines[s.author] + 1, wrong[s.author] + share
    everybody = (sum(wrong.values()) + 1) / (sum(lines.values()) + 20)

    def rate(author: str, share: float) -> float:
        return (wrong[author] - share + SHRINK_AUTHOR * everybody) / (lines[author] - 1 + SHRINK_AUTHOR)

    return [_odds(rate(s.author, share)) - _odds(everybody) for s, share in zip(seen, shares, strict=True)]


def _odds(share: float) -> float:
    share = min(0.999, max(0.001, share))
    return log(share / (1 - share))


def _share(odds: float) -> float:
    return 1 / (1 + exp(-odds))


def _why(s: Seen, case: _Case) -> str:
    """What speaks most against it, in the words of the reader who finds least."""
    opinion = min(s.opinions, key=lambda o: o.cost - o.reading_cost if isfinite(o.cost) else NO_ROOM)
    if case.conflict > 1:
        text = min(opinion.earlier, key=opinion.earlier.__getitem__)
        return f"What was stated of this place before fits the picture better: “{text}”."
    if case.misfit <= MISFIT:
        return f"Perhaps a slip: a reader who did not learn from it reads “{opinion.reading}”."
    near = min(opinion.near, key=opinion.near.__getitem__, default="")
    if near and opinion.near[near] - opinion.reading_cost < (opinion.cost - opinion.reading_cost) / 2:
        return f"The text fits the picture less than that of a neighbouring line: “{near}”."
    return (
        f"The picture hardly shows this text: a reader who did not learn from it reads “{opinion.reading}”."
    )
