"""One arm of an experiment in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redpencil.betting import mean_interval, quantile_interval
from redpencil.bootstrap import interval
from redpencil.labels import WORST, Arm, Label, Unit

Span = tuple[float | None, float | None]
"""Low and high end of an interval, None on a side where nothing bounds it."""


@dataclass(frozen=True, slots=True)
class ArmReport:
    """What is known of one arm; rates are 0..1, None where there is nothing to count.

    `cer`, `exact` and `effort` (edited characters per correction) are over all its labels. `unit_cer`
    (counted up to `WORST`) and `unit_exact` are means over settled units. `audited_cer` estimates the
    CER of what nobody had corrected, from the lines drawn there at random. The spans of the units and
    of the latencies hold at any time, those of `effort` and `audited_cer` are ordinary 95 % intervals,
    for orientation.
    """

    labels: int
    units: int
    cer: float | None
    exact: float | None
    effort: float | None
    effort_span: Span
    unit_cer: float | None
    unit_cer_span: Span
    unit_exact: float | None
    unit_exact_span: Span
    audited: int
    audited_cer: float | None
    audited_span: Span
    requests: int
    median_ms: float | None
    median_span: Span
    p95_ms: float | None
    p95_span: Span


def hajek(tops: Sequence[float], bottoms: Sequence[float], probabilities: Sequence[float]) -> float | None:
    """Estimate sum(tops) / sum(bottoms) over all lines from those drawn with known probabilities.

    Each drawn line stands for 1 / probability lines (Hajek 1971); None where nothing was drawn.
    """
    weights = 1.0 / np.asarray(probabilities, float)
    whole = float(weights @ np.asarray(bottoms, float)) if len(weights) else 0.0
    return float(weights @ np.asarray(tops, float)) / whole if whole else None


def summarise(
    arm: Arm, labels: Sequence[Label], units: Sequence[Unit], latencies_ms: Sequence[float], alpha: float
) -> ArmReport:
    """The numbers of an arm, from everybody's labels and settled units and the time its answers took."""
    labels = [item for item in labels if item.arm == arm]
    units = [unit for unit in units if unit.arm == arm]
    errors = [item.errors for item in labels]
    chars = [item.chars for item in labels]
    ones = [1.0] * len(labels)
    rates = np.array([unit.cer(arm) / WORST for unit in units], float)
    exact = np.array([unit.exact(arm) for unit in units], float)
    audited = [item for item in labels if item.audit_probability]
    audited_cer, audited_span = _audited(audited)
    low, high = mean_interval(rates, alpha)
    return ArmReport(
        labels=len(labels),
        units=len(units),
        cer=hajek(errors, chars, ones),
        exact=errors.count(0) / len(errors) if errors else None,
        effort=hajek(errors, ones, ones),
        effort_span=_span(errors, ones, [item.unit for item in labels]),
        unit_cer=float(rates.mean()) * WORST if units else None,
        unit_cer_span=(low * WORST, high * WORST),
        unit_exact=float(exact.mean()) if units else None,
        unit_exact_span=mean_interval(exact, alpha),
        audited=len(audited),
        audited_cer=audited_cer,
        audited_span=audited_span,
        requests=len(latencies_ms),
        median_ms=_quantile(latencies_ms, 0.5),
        median_span=quantile_interval(latencies_ms, 0.5, alpha),
        p95_ms=_quantile(latencies_ms, 0.95),
        p95_span=quantile_interval(latencies_ms, 0.95, alpha),
    )


def _audited(labels: Sequence[Label]) -> tuple[float | None, Span]:
    probabilities = [item.audit_probability or 1.0 for item in labels]
    tops, bottoms = [item.errors for item in labels], [item.chars for item in labels]
    span = _span(
        [top / p for top, p in zip(tops, probabilities, strict=True)],
        [bottom / p for bottom, p in zip(bottoms, probabilities, strict=True)],
        [item.unit for item in labels],
    )
    return hajek(tops, bottoms, probabilities), span


def _span(tops: Sequence[float], bottoms: Sequence[float], units: Sequence[str]) -> Span:
    found = interval(tops, bottoms, units)
    return (None, None) if found is None else (max(0.0, found.low), found.high)


def _quantile(values: Sequence[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if len(values) else None
