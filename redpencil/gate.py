"""The gate: may this candidate replace the champion? Pure: line scores in, verdict out.

Three slices are judged: corrections held out for life, corrections ever trained on, and the frozen
golden set of the base domain. A change is beyond chance where its 95 % interval leaves zero out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from redpencil.errors import BadInput
from redpencil.slices import LineScore, Slice, cer
from redpencil.types import Outcome, Precision, Verdict
from redpencil.verdict_page import report_markdown
from redpencil.wording import digits, moved, percent, points

__all__ = ["Latency", "LineScore", "judge", "report_markdown"]

RELATIVE_MARGIN, ABSOLUTE_MARGIN = 0.05, 0.001
"""How much CER may rise unpunished: 5 % of itself, or one character in 1,000 where that is more.

Less is not noticed at work, and a golden set of some 10,000 characters cannot measure it. A tuned
model that is quantised well loses 0.09 points (1.31 to 1.40 %), one quantised badly loses 0.2.
"""
FEW_LINES = 10
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


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule says, in a sentence for the person who asked for the version."""

    outcome: Outcome
    reason: str


def judge(
    *,
    holdout: Sequence[LineScore],
    trained: Sequence[LineScore],
    golden: Sequence[LineScore],
    latency: Latency,
    candidate: str = "",
    champion: str = "",
    judged_at: float = 0.0,
) -> Verdict:
    """Judge a candidate by every rule; the worst finding is the outcome and comes first.

    `scores` holds `holdout`, `trained` and `golden` (see `Slice.scores`), `precision` and `latency`;
    `items` says of every correction what the candidate changed, and is empty for a first version.
    """
    lines = (*holdout, *trained, *golden)
    _check(lines)
    precision, choice = _precision(lines, latency)
    unseen = Slice("held-out corrected lines", tuple(holdout), precision)
    seen = Slice("corrected lines that were trained on", tuple(trained), precision)
    base = Slice("golden lines", tuple(golden), precision)
    findings = sorted(
        (choice, *_findings(unseen, seen, base, latency)), key=lambda f: SEVERITY.index(f.outcome)
    )
    return Verdict(
        outcome=findings[0].outcome,
        reasons=tuple(finding.reason for finding in findings),
        precision=precision,
        scores={
            "holdout": unseen.scores(),
            "trained": seen.scores(),
            "golden": base.scores(),
            "precision": {p.value: cer(lines, p) for p in Precision},
            "latency": _medians(latency, precision),
        },
        items={**unseen.fates, **seen.fates},
        candidate=candidate,
        champion=champion,
        judged_at=judged_at,
    )


def _check(lines: Sequence[LineScore]) -> None:
    if len({line.errors_champion is None for line in lines}) > 1:
        raise BadInput("the champion must have read all judged lines or none of them")
    if len({line.errors_candidate_int8 is None for line in lines}) > 1:
        raise BadInput("the INT8 candidate must have read all judged lines or none of them")


def _findings(unseen: Slice, seen: Slice, base: Slice, latency: Latency) -> Iterable[Finding]:
    if all(part.before is None for part in (unseen, seen, base)):
        return [_first_version(base)]
    few = len(unseen.lines) < FEW_LINES
    rules = [_golden(base), _few_holdout(unseen) if few else _holdout(unseen), _trained(seen, few)]
    return [*rules, *_few_documents(unseen), _latency(latency, base.precision)]


def _margin(rate: float) -> float:
    return max(RELATIVE_MARGIN * rate, ABSOLUTE_MARGIN)


def _precision(lines: Sequence[LineScore], latency: Latency) -> tuple[Precision, Finding]:
    """INT8 where it reads as well as FP32 on all judged lines together, or where FP32 is too slow."""
    int8, fp32 = cer(lines, Precision.INT8), cer(lines, Precision.FP32)
    if int8 is None or fp32 is None:
        return Precision.FP32, Finding(Outcome.PASSED, "There is no INT8 reading to judge: FP32 is judged.")
    allowed = _margin(fp32)
    numbers = (
        f"On all {len(lines)} judged lines CER is {percent(int8, 2)} in INT8 and {percent(fp32, 2)} in FP32 "
        f"(at most {100 * allowed:.2f} points may be lost)"
    )
    if int8 - fp32 <= allowed:
        return Precision.INT8, Finding(Outcome.PASSED, f"{numbers}: INT8 is judged.")
    if _too_slow(latency, Precision.FP32) and not _too_slow(latency, Precision.INT8):
        return Precision.INT8, Finding(Outcome.PASSED, f"{numbers}: FP32 is too slow, INT8 is judged.")
    return Precision.FP32, Finding(Outcome.PASSED, f"{numbers}: INT8 loses too much, FP32 is judged.")


def _first_version(base: Slice) -> Finding:
    bound = f"a first version needs less than {percent(FIRST_VERSION_CER, 0)}"
    if not base.lines:
        return Finding(Outcome.INCONCLUSIVE, f"There are no golden lines to read, and {bound} CER there.")
    good = base.after < FIRST_VERSION_CER
    sentence = f"On {_lines(base)} CER is {percent(base.after, 2)}; {bound}: {'good' if good else 'too bad'}."
    return Finding(Outcome.PASSED if good else Outcome.FAILED, sentence)


def _golden(base: Slice) -> Finding:
    """What the reader could do before, it must still do."""
    if base.before is None:
        return Finding(Outcome.INCONCLUSIVE, "There are no golden lines, so forgetting cannot be judged.")
    allowed = _margin(base.before)
    limit = f"a rise of up to {100 * allowed:.2f} points is allowed"
    if base.change <= allowed:
        return Finding(Outcome.PASSED, f"{_sentence(base)}; {limit}: good.")
    if base.surely_worse:
        return Finding(Outcome.FAILED, f"{_sentence(base)}; {limit}: worse, it forgets what it could read.")
    return Finding(Outcome.INCONCLUSIVE, f"{_sentence(base)}; {limit}: more than that, but it may be chance.")


def _holdout(unseen: Slice) -> Finding:
    """On lines that it never saw, the candidate must be better beyond chance."""
    if unseen.surely_worse:
        return Finding(Outcome.FAILED, f"{_sentence(unseen)}: worse.")
    if unseen.surely_better:
        return Finding(Outcome.PASSED, f"{_sentence(unseen)}: better.")
    return Finding(Outcome.INCONCLUSIVE, f"{_sentence(unseen)}: no gain beyond chance.")


def _few_holdout(unseen: Slice) -> Finding:
    caution = f"caution, fewer than {FEW_LINES} lines prove little"
    if not unseen.lines:
        return Finding(Outcome.PASSED, f"No corrected line is held out yet: {caution}.")
    if unseen.surely_worse:
        return Finding(Outcome.FAILED, f"{_sentence(unseen)}: worse.")
    if unseen.change > 0:
        return Finding(Outcome.INCONCLUSIVE, f"{_sentence(unseen)}: worse, but it may be chance; {caution}.")
    return Finding(Outcome.PASSED, f"{_sentence(unseen)}: not worse; {caution}.")


def _few_documents(unseen: Slice) -> Iterable[Finding]:
    """Lines stand in for documents where these are too few; then the interval says less."""
    if unseen.few_documents:
        documents = "one document" if unseen.documents == 1 else f"{unseen.documents} documents"
        caution = f"Caution: the held-out lines come from only {documents}; others may gain more or less."
        yield Finding(Outcome.PASSED, caution)


def _trained(seen: Slice, few: bool) -> Finding:
    """What was trained on must not get worse, and must show the gain where the holdout is too small to."""
    if not seen.lines:
        outcome = Outcome.INCONCLUSIVE if few else Outcome.PASSED
        return Finding(
            outcome, "No correction has been trained on" + (": no gain can be seen." if few else ".")
        )
    counts = seen.counts
    told = f"{_sentence(seen)}; {counts['fixed']} fixed, {counts['newly_broken']} newly broken"
    if seen.change > 0:
        sure = seen.surely_worse
        return Finding(
            Outcome.FAILED if sure else Outcome.INCONCLUSIVE,
            f"{told}: worse{'' if sure else ', but it may be chance'}.",
        )
    if few and counts["fixed"] <= counts["newly_broken"] and not seen.surely_better:
        return Finding(Outcome.INCONCLUSIVE, f"{told}: no gain.")
    return Finding(Outcome.PASSED, f"{told}: {'better' if seen.change < 0 else 'not worse'}.")


def _too_slow(latency: Latency, precision: Precision) -> bool:
    ratio = _medians(latency, precision)["ratio"]
    return ratio is not None and ratio > SLOWDOWN


def _latency(latency: Latency, precision: Precision) -> Finding:
    medians = _medians(latency, precision)
    ratio = medians["ratio"]
    if ratio is None:
        return Finding(Outcome.INCONCLUSIVE, "The time per line was not measured.")
    slow = _too_slow(latency, precision)
    answer = "too slow" if slow else "good"
    sentence = (
        f"A line takes {medians['candidate']:.1f} ms, with the champion {medians['champion']:.1f} ms "
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


def _lines(part: Slice) -> str:
    words = part.words if len(part.lines) != 1 else part.words.replace("lines", "line")
    return f"{len(part.lines)} {words}"


def _sentence(part: Slice) -> str:
    """`On 21 held-out corrected lines CER fell from 9.1 % to 3.0 % (95 % interval of the change ...)`."""
    before = part.before or 0.0
    sure = "too few lines for an interval"
    if part.interval is not None:
        low, high = part.interval.low, part.interval.high
        sure = f"95 % interval of the change {points(low, high, digits(before, part.after))}"
    return f"On {_lines(part)} CER {moved(before, part.after)} ({sure})"
