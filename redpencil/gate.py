"""The gate: may this candidate replace the champion? Pure: line scores in, verdict out.

Three slices are judged: corrections held out for life, corrections trained on, and the base domain:
a frozen golden set, or where a task has none what the champion had learned from. A change is beyond
chance where its 95 % interval leaves zero out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from redpencil.errors import BadInput
from redpencil.finding import Finding, change, number
from redpencil.gain import FEW_LINES, few_documents, gain
from redpencil.measure import CER, Measure
from redpencil.slices import LineScore, Slice, rate
from redpencil.types import Outcome, Precision, Verdict
from redpencil.verdict_page import report_markdown
from redpencil.wording import moved, percent
from redpencil.worth import Worth, beats, keeps

__all__ = ["Latency", "LineScore", "Worth", "judge", "report_markdown"]

RELATIVE_MARGIN, ABSOLUTE_MARGIN = CER.relative, CER.absolute
FIRST_VERSION_CER = 0.10
SLOWDOWN = 1.5
SEVERITY = (Outcome.FAILED, Outcome.INCONCLUSIVE, Outcome.PASSED)


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds per line, measured on the same lines in turns."""

    int8: tuple[float, ...] = ()
    fp32: tuple[float, ...] = ()
    champion: tuple[float, ...] = ()

    def candidate(self, precision: Precision) -> tuple[float, ...]:
        return self.int8 if precision is Precision.INT8 else self.fp32


def judge(
    *,
    holdout: Sequence[LineScore],
    trained: Sequence[LineScore],
    golden: Sequence[LineScore],
    latency: Latency,
    measure: Measure = CER,
    worth: Worth | None = None,
    start: float | None = None,
    fresh: Collection[str] | None = None,
    candidate: str = "",
    champion: str = "",
    judged_at: float = 0.0,
) -> Verdict:
    """Judge a candidate by every rule; the worst finding is the outcome and comes first.

    `golden` are the lines of the base domain; `worth` is for captions alone. `start` is the rate at
    which golden lines were read by what was served first, so that small losses do not add up unseen.
    `fresh` are the keys of lines that are new to the champion: held out since it was judged, or not
    learned by it; None: all.
    `scores` holds `holdout`, `trained` and the base's slice (see `Slice.scores`), `precision` and
    `latency`; `items` says of every correction what the candidate changed, and is empty for a first version.
    """
    lines = (*holdout, *trained, *golden)
    _check(lines)
    precision, choice = _precision(lines, latency, measure)
    unseen = Slice(measure.held, tuple(holdout), precision, measure)
    seen = Slice(measure.learned, tuple(trained), precision, measure)
    base = Slice(measure.base, tuple(golden), precision, measure)
    first = all(part.before is None for part in (unseen, seen, base))
    rules = _first_version(unseen, base, worth) if first else _findings(unseen, seen, base, fresh, latency)
    rules = [*rules, *_drift(base, start)]
    findings = sorted((choice, *rules, *_keeps_worth(unseen, worth)), key=lambda f: SEVERITY.index(f.outcome))
    return Verdict(
        outcome=findings[0].outcome,
        reasons=tuple(finding.reason for finding in findings),
        precision=precision,
        scores={
            "holdout": unseen.scores(),
            "trained": seen.scores(),
            measure.base_key: base.scores(),
            "precision": {p.value: rate(lines, p) for p in Precision},
            "latency": _medians(latency, precision),
        },
        items={**unseen.fates, **seen.fates} | ({} if measure.golden else base.fates),
        candidate=candidate,
        champion=champion,
        judged_at=judged_at,
    )


def _check(lines: Sequence[LineScore]) -> None:
    if len({line.errors_champion is None for line in lines}) > 1:
        raise BadInput("the champion must have read all judged lines or none of them")
    if len({line.errors_candidate_int8 is None for line in lines}) > 1:
        raise BadInput("the INT8 candidate must have read all judged lines or none of them")


def _findings(
    unseen: Slice, seen: Slice, base: Slice, fresh: Collection[str] | None, latency: Latency
) -> Iterable[Finding]:
    return [_golden(base), *gain(unseen, seen, fresh), _latency(latency, base.precision, base.measure)]


def _precision(lines: Sequence[LineScore], latency: Latency, measure: Measure) -> tuple[Precision, Finding]:
    """INT8 where it reads as well as FP32 on all judged lines together, or where FP32 is too slow."""
    int8, fp32 = rate(lines, Precision.INT8), rate(lines, Precision.FP32)
    if int8 is None or fp32 is None:
        return Precision.FP32, Finding(Outcome.PASSED, "There is no INT8 reading to judge: FP32 is judged.")
    allowed = measure.allowed(fp32)
    numbers = (
        f"On all {len(lines)} judged {measure.thing}s {measure.name} is {percent(int8, 2)} in INT8 "
        f"and {percent(fp32, 2)} in FP32 (at most {100 * allowed:.2f} points may be lost)"
    )
    if int8 - fp32 <= allowed:
        return Precision.INT8, Finding(Outcome.PASSED, f"{numbers}: INT8 is judged.")
    if _too_slow(latency, Precision.FP32) and not _too_slow(latency, Precision.INT8):
        return Precision.INT8, Finding(Outcome.PASSED, f"{numbers}: FP32 is too slow, INT8 is judged.")
    return Precision.FP32, Finding(Outcome.PASSED, f"{numbers}: INT8 loses too much, FP32 is judged.")


def _first_version(unseen: Slice, base: Slice, worth: Worth | None) -> Iterable[Finding]:
    """It must read what every version must, or where nobody knows what that is do better than a parrot."""
    if base.measure.golden:
        yield _readable(base)
    elif len(unseen.lines) < FEW_LINES or worth is None:
        yield Finding(
            Outcome.INCONCLUSIVE,
            f"There is no version to compare with, so at least {FEW_LINES} {unseen.words} are needed, and "
            f"there are {len(unseen.lines)}: add more images with captions; about one in five is held out.",
        )
    else:
        parroted = replace(unseen, lines=worth.lines)
        yield beats(parroted, worth.parrot)
        yield from few_documents(parroted)


def _keeps_worth(unseen: Slice, worth: Worth | None) -> Iterable[Finding]:
    if worth is not None and not worth.parrot and len(worth.lines) >= FEW_LINES:
        yield keeps(replace(unseen, lines=worth.lines))


def _readable(base: Slice) -> Finding:
    bound = f"a first version needs less than {percent(FIRST_VERSION_CER, 0)}"
    if not base.lines:
        return Finding(Outcome.INCONCLUSIVE, f"There are no golden lines to read, and {bound} CER there.")
    good = base.after < FIRST_VERSION_CER
    sentence = f"On {number(base)} CER is {percent(base.after, 2)}; {bound}: {'good' if good else 'too bad'}."
    return Finding(Outcome.PASSED if good else Outcome.FAILED, sentence)


def _golden(base: Slice) -> Finding:
    """What the reader could do before, it must still do."""
    if base.before is None:
        return _nothing_to_forget(base.measure)
    allowed = base.measure.allowed(base.before)
    limit = f"a rise of up to {100 * allowed:.2f} points is allowed"
    if base.change <= allowed:
        return Finding(Outcome.PASSED, f"{change(base)}; {limit}: good.")
    if base.surely_worse:
        return Finding(
            Outcome.FAILED,
            f"{change(base)}; {limit}: worse, it forgets what it could {base.measure.does}.",
        )
    return Finding(Outcome.INCONCLUSIVE, f"{change(base)}; {limit}: more than that, but it may be chance.")


def _drift(base: Slice, start: float | None) -> Iterable[Finding]:
    """What one version may lose beside the one before it, ten may not lose one after the other."""
    if start is None or base.change <= 0 or base.after - start <= base.measure.allowed(start):
        return
    yield Finding(
        Outcome.INCONCLUSIVE,
        f"Beside what was served first (or let in by a person), {base.measure.name} on {number(base)} "
        f"{moved(start, base.after)}: small losses add up, and up to "
        f"{100 * base.measure.allowed(start):.2f} points are allowed in all.",
    )


def _nothing_to_forget(measure: Measure) -> Finding:
    if measure.golden:
        return Finding(Outcome.INCONCLUSIVE, "There are no golden lines, so forgetting cannot be judged.")
    return Finding(
        Outcome.PASSED, f"There are no {measure.base}: caution, whether it forgets anything is not judged."
    )


def _too_slow(latency: Latency, precision: Precision) -> bool:
    ratio = _medians(latency, precision)["ratio"]
    return ratio is not None and ratio > SLOWDOWN


def _latency(latency: Latency, precision: Precision, measure: Measure) -> Finding:
    medians = _medians(latency, precision)
    ratio = medians["ratio"]
    if ratio is None:
        return Finding(Outcome.INCONCLUSIVE, f"The time per {measure.thing} was not measured.")
    slow = _too_slow(latency, precision)
    answer = "too slow" if slow else "good"
    sentence = (
        f"{measure.one} takes {medians['candidate']:.1f} ms, with the champion {medians['champion']:.1f} ms "
        f"(medians): {ratio:.2f} times as long, up to {SLOWDOWN} is allowed: {answer}."
    )
    return Finding(Outcome.FAILED if slow else Outcome.PASSED, sentence)


def _medians(latency: Latency, precision: Precision) -> dict[str, Any]:
    measured = {
        "champion": latency.champion,
        "candidate": latency.candidate(precision),
        "int8": latency.int8,
        "fp32": latency.fp32,
    }
    medians = {name: median(ms) if ms else None for name, ms in measured.items()}
    champion, candidate = medians["champion"], medians["candidate"]
    return {**medians, "ratio": candidate / champion if champion and candidate is not None else None}
