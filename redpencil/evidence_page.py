"""An experiment's report as a page to read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from redpencil.arms import ArmReport, Span
from redpencil.labels import WORST, Arm


def page(verdict: str, reasons: Iterable[str], arms: Mapping[Arm, ArmReport], streams: Iterable[str]) -> str:
    """The verdict, why, both arms side by side, and the comparisons; in Markdown."""
    rows = [_row("", *arms), "|---" * (1 + len(arms)) + "|"]
    rows += [_row(title, *map(show, arms.values())) for title, show in ROWS.items()]
    blocks = [f"# Verdict: {verdict}", _list(reasons), "\n".join(rows), _list(streams)]
    return "\n\n".join(blocks) + "\n"


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rate(rate: float | None, span: Span = (None, None)) -> str:
    low, high = (None if bound is None else 100 * bound for bound in span)
    return "-" if rate is None else _value(100 * rate, (low, high), " %")


def _value(value: float | None, span: Span = (None, None), unit: str = "") -> str:
    if value is None:
        return "-"
    low, high = ("?" if bound is None else f"{bound:.2f}" for bound in span)
    return f"{value:.2f}{unit}" + ("" if low == high == "?" else f" ({low} to {high})")


ROWS: dict[str, Callable[[ArmReport], str]] = {
    "corrections": lambda arm: str(arm.labels),
    "settled units": lambda arm: str(arm.units),
    "CER of corrected lines": lambda arm: _rate(arm.cer),
    f"mean CER of units, counted up to {WORST:.0%}": lambda arm: _rate(arm.unit_cer, arm.unit_cer_span),
    "read without a fault": lambda arm: _rate(arm.exact),
    "mean share of units": lambda arm: _rate(arm.unit_exact, arm.unit_exact_span),
    "characters edited per correction": lambda arm: _value(arm.effort, arm.effort_span),
    "CER of what was left alone, from the audit": lambda arm: _rate(arm.audited_cer, arm.audited_span),
    "median ms": lambda arm: _value(arm.median_ms, arm.median_span),
    "95th percentile ms": lambda arm: _value(arm.p95_ms, arm.p95_span),
}
