"""Which of two arms reads better, judged by late labels; one may look at any time, and stop.

Three streams of differences are bet on (see `betting`): the CER of units of either arm, and, on lines
that A answered and B read unseen, their CER and who read them without a fault. Each has its share of
alpha, half of it for either arm. So "A" or "B" is said wrongly, at whatever moments one looks, with
a chance of alpha at most.

On the lines that both read, people who saw A's answer mostly correct what A got wrong. Such lines
make B look good, and the random audit, drawn from the lines that were left alone, makes A look good.
So B has to win on the audit, and A on all lines together: either is then judged with a handicap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from redpencil.arms import ArmReport, Span, summarise
from redpencil.betting import Floats, mean_interval, ratio_wealth, wealth
from redpencil.labels import WORST, Arm, Label, Unit, differences, settle
from redpencil.wording import percent

Answer = Literal["A", "B", "not yet"]
ARMS: tuple[Arm, Arm] = ("A", "B")

STAKES = {"unpaired CER": 0.5, "paired CER": 0.25, "paired exact match": 0.25}
"""The streams, and the share of alpha that each is given beforehand."""

SCALES = {"unpaired CER": -WORST, "paired CER": -WORST, "paired exact match": 1.0}
"""What a gain of B of 1 means in each stream's own measure."""

RATIO_ALPHA = 0.01
"""Level of the sample-ratio check: an alarm withholds the verdict, so it should be rare."""

SETTLE_S = 60.0
LARGEST_LOG = 600.0
"""Where evidence stops being counted, so that it stays a finite number."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Distinct keys (clients, else images) first seen while B's share was `weight`, by arm.

    Keys, not requests: one busy client is one draw.
    """

    weight: float
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Stream:
    """The evidence of one stream. `difference` is B less A; in exact match B's gain is positive."""

    name: str
    pairs: int
    difference: float | None
    span: Span
    log_e_a: float
    log_e_b: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """How the keys fell on the arms, and whether that contradicts the weights."""

    a: int
    b: int
    expected_b: float | None
    log_e: float
    alarm: bool


@dataclass(frozen=True, slots=True)
class Report:
    """The state of an experiment: which arm reads better at level `alpha`, why, and in numbers.

    `e_a` and `e_b` are the strongest stream's odds, times its share, against "A (B) is not better";
    `required` of them are needed.
    `chosen_pairs` are lines that both arms read and a person chose, which can only speak for A.
    """

    verdict: Answer
    alpha: float
    required: float
    e_a: float
    e_b: float
    reasons: tuple[str, ...]
    arms: dict[Arm, ArmReport]
    streams: tuple[Stream, ...]
    sample_ratio: Ratio
    open_units: int
    chosen_pairs: int

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)


def report(
    labels: Sequence[Label],
    *,
    now: float,
    exposures: Sequence[Exposure] = (),
    latencies_ms: Mapping[Arm, Sequence[float]] | None = None,
    alpha: float = 0.05,
    settle_s: float = SETTLE_S,
) -> Report:
    """Say what the labels prove by `now`.

    With arms that are alike, "A" or "B" is said with a chance of alpha at most, however often one
    asks. Labels of versions that a client chose itself have no place here.
    """
    units = settle(labels, now, settle_s, key=lambda item: (item.unit, item.arm))
    both = [item for item in labels if item.arm == "A" and item.shadow_errors is not None]
    drawn = [item for item in both if item.audit_probability]
    paired, audited = (settle(part, now, settle_s, key=lambda item: item.unit) for part in (both, drawn))
    streams = streams_of(units, paired, audited, alpha)
    e_a, e_b = (_strongest([getattr(stream, side) for stream in streams]) for side in ("log_e_a", "log_e_b"))
    ratio = sample_ratio(exposures)
    favoured = _favoured(e_a, e_b, 2 / alpha)
    doubts = [*_ratio_doubt(ratio), *_effort_doubt(favoured, labels, ratio)]
    gathering = len({(item.unit, item.arm) for item in labels}) - len(units)
    chosen = len(both) - len(drawn)
    notes = [*_notes(gathering, settle_s, chosen), *_label_note(labels, ratio)]
    return Report(
        verdict="not yet" if doubts else favoured,
        alpha=alpha,
        required=2 / alpha,
        e_a=e_a,
        e_b=e_b,
        reasons=(_odds(favoured, e_a, e_b, 2 / alpha), *doubts, *notes),
        arms={arm: summarise(arm, labels, units, (latencies_ms or {}).get(arm, ()), alpha) for arm in ARMS},
        streams=streams,
        sample_ratio=ratio,
        open_units=gathering,
        chosen_pairs=chosen,
    )


def streams_of(
    units: Sequence[Unit], paired: Sequence[Unit], audited: Sequence[Unit], alpha: float
) -> tuple[Stream, ...]:
    """Bet on every stream: settled units of the arms, and of lines read by both, all or only the audit's."""
    apart = np.array(differences(units), float) / WORST
    rates = [np.array([u.cer("A") - u.cer("B") for u in part], float) / WORST for part in (audited, paired)]
    faults = [np.array([u.preference() for u in part], float) for part in (audited, paired)]
    gains = zip(STAKES, ((apart, apart), rates, faults), strict=True)
    return tuple(_stream(name, for_b, for_a, alpha) for name, (for_b, for_a) in gains)


def _stream(name: str, for_b: Floats, for_a: Floats, alpha: float) -> Stream:
    """Bet for B on some gains of B over A (-1..1), and for A on others (their opposite)."""
    log_e_a, log_e_b = (min(LARGEST_LOG, wealth((1 + gains) / 2, 0.5)) for gains in (-for_a, for_b))
    if not for_b.size:
        return Stream(name, 0, None, (None, None), log_e_a, log_e_b)
    low, high = sorted(SCALES[name] * (2 * end - 1) for end in mean_interval((1 + for_b) / 2, alpha))
    return Stream(name, for_b.size, SCALES[name] * float(for_b.mean()), (low, high), log_e_a, log_e_b)


def _strongest(logs: Sequence[float]) -> float:
    """Each stream has its share of alpha to itself, so it does not matter how they hang together."""
    return max(stake * math.exp(log_e) for stake, log_e in zip(STAKES.values(), logs, strict=True))


def _favoured(e_a: float, e_b: float, required: float) -> Answer:
    if max(e_a, e_b) < required:
        return "not yet"
    return "A" if e_a > e_b else "B"


def sample_ratio(exposures: Sequence[Exposure]) -> Ratio:
    """Check, at any time, whether keys fall on the arms as the weights say (one factor per weight)."""
    a, b = sum(phase.a for phase in exposures), sum(phase.b for phase in exposures)
    expected = sum(phase.weight * (phase.a + phase.b) for phase in exposures)
    log_e = sum(ratio_wealth((phase.a, phase.b), (1 - phase.weight, phase.weight)) for phase in exposures)
    share = expected / (a + b) if a + b else None
    return Ratio(a, b, share, min(LARGEST_LOG, log_e), log_e >= -math.log(RATIO_ALPHA))


def _ratio_doubt(ratio: Ratio) -> Iterator[str]:
    if ratio.alarm and ratio.expected_b is not None:
        should, has = percent(ratio.expected_b), percent(ratio.b / (ratio.a + ratio.b))
        yield f"B should have {should} of the keys and has {has}: no verdict until that is explained."


def _effort_doubt(favoured: Answer, labels: Sequence[Label], ratio: Ratio) -> Iterator[str]:
    """People correct what is wrong, so an arm with few but bad errors looks bad per correction.

    The favoured arm must also cost fewer edits per key, where keys were counted.
    """
    if favoured == "not yet" or not ratio.a or not ratio.b:
        return
    edits = {arm: sum(item.errors for item in labels if item.arm == arm) for arm in ARMS}
    per_key = {"A": edits["A"] / ratio.a, "B": edits["B"] / ratio.b}
    other: Arm = "B" if favoured == "A" else "A"
    if per_key[favoured] > per_key[other]:
        yield (
            f"Yet people edited {per_key[favoured]:.2f} characters per key with {favoured} and "
            f"{per_key[other]:.2f} with {other}: no verdict while the two disagree."
        )


def _odds(favoured: Answer, e_a: float, e_b: float, required: float) -> str:
    odds = f"{e_a:.3g} to 1 for A and {e_b:.3g} to 1 for B, and {required:.3g} to 1 is required"
    if favoured == "not yet":
        return f"The evidence is not enough yet: {odds}."
    return f"{favoured} reads better: the evidence is {odds}."


def _notes(gathering: int, settle_s: float, chosen: int) -> Iterator[str]:
    if gathering:
        yield f"{gathering} units are still being corrected; they count after {settle_s:g} quiet seconds."
    if chosen:
        yield (
            f"{chosen} lines that both read were chosen by people who had seen A's answer, which favours B: "
            "they can speak for A alone. Lines from the random audit speak for B."
        )


def _label_note(labels: Sequence[Label], ratio: Ratio) -> Iterator[str]:
    corrected = [len({item.unit for item in labels if item.arm == arm}) for arm in ARMS]
    keys = ratio.a + ratio.b
    if not keys or ratio_wealth(corrected, (ratio.a / keys, ratio.b / keys)) < -math.log(RATIO_ALPHA):
        return
    yield (
        f"People corrected the arms unequally often: {corrected[0]} units of {ratio.a} keys with A, "
        f"{corrected[1]} of {ratio.b} with B. Errors per correction are then not errors per answer."
    )
