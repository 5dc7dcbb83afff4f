"""Rates as people read them: `9.1 %`, `0.45 %`, differences in points."""

from __future__ import annotations


def digits(before: float, after: float) -> int:
    """Decimals in per cent that keep two rates (0..1) apart: 1, or more where they are close or small."""
    apart = abs(after - before)
    if apart >= 0.001 and min(before, after) >= 0.01:
        return 1
    return 3 if 0 < apart < 0.0002 else 2


def percent(rate: float, decimals: int = 1) -> str:
    return f"{100 * rate:.{decimals}f} %"


def points(low: float, high: float, decimals: int = 1) -> str:
    """An interval of a change, such as `-8.1 to -3.9 points`; a bound is never rounded to zero."""
    while decimals < 4 and any(value and not round(100 * value, decimals) for value in (low, high)):
        decimals += 1
    return f"{100 * low:.{decimals}f} to {100 * high:.{decimals}f} points"


def moved(before: float, after: float) -> str:
    """`fell from 9.1 % to 3.0 %`, `rose from ...`, or `stayed at 3.0 %`."""
    decimals = digits(before, after)
    if before == after:
        return f"stayed at {percent(after, decimals)}"
    verb = "fell" if after < before else "rose"
    return f"{verb} from {percent(before, decimals)} to {percent(after, decimals)}"
