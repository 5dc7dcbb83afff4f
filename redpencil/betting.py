"""Anytime-valid statistics by betting: look after every observation, stop when you like.

An e-value is the wealth of somebody who bets against a claim at odds that are fair while the claim
holds. Whatever the moment, wealth reaches 1/alpha with chance alpha at most (Ville 1939), so a claim
may be dropped the first time it does. The bets are the fixed shares `SHARES` of one's wealth, side
by side: a mixture, as in Cover's universal portfolio, which needs no tuning and no order.
Sources: Waudby-Smith and Ramdas 2023; Orabona and Jun 2021; Lindon and Malek 2022.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHARES = 0.98 * 0.6 ** np.arange(8)
"""Shares of the wealth that are bet, from 0.98 down to 0.03: what tens to thousands of values call for."""

STEPS = 40
PRIOR = 20.0


def wealth_path(values: Floats, mean: float) -> Floats:
    """The log e-value, after each value in 0..1, against "no value is above `mean` in expectation"."""
    gains = np.log1p(SHARES * (values[:, None] / mean - 1.0))
    return _log_mean(np.cumsum(gains, axis=0))


def wealth(values: Floats, mean: float) -> float:
    """The last of `wealth_path`; 0 where nothing was seen."""
    gains = np.log1p(SHARES * (values[:, None] / mean - 1.0))
    return float(_log_mean(gains.sum(axis=0, keepdims=True))[0])


def mean_interval(values: Floats, alpha: float) -> tuple[float, float]:
    """A confidence sequence for the mean of values in 0..1: at all times right with chance 1 - alpha."""
    return _lower(values, alpha / 2), 1.0 - _lower(1.0 - values, alpha / 2)


def _lower(values: Floats, alpha: float) -> float:
    """The largest mean that wealth has refuted; wealth falls as the claimed mean rises."""
    if not values.size or not values.any():
        return 0.0
    low, high = 0.0, float(values.mean())
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if wealth(values, middle) >= -math.log(alpha) else (low, middle)
    return low


def quantile_interval(
    values: Sequence[float], share: float, alpha: float
) -> tuple[float | None, float | None]:
    """A confidence sequence for the value that `share` of all values stay below; None on an open side.

    How many lie below is a count of coin throws; the counts that are not refuted become ranks.
    Values are taken as independent.
    """
    ordered, n = sorted(values), len(values)
    centre = round(share * n)

    def refuted(below: int) -> bool:
        return ratio_wealth((below, n - below), (share, 1 - share)) >= -math.log(alpha)

    low = bisect_left(range(centre), True, key=lambda k: not refuted(k))
    high = centre + bisect_left(range(centre + 1, n + 1), True, key=refuted)
    return ordered[low - 1] if low else None, ordered[high] if high < n else None


def ratio_wealth(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The log e-value against "the counts fall as these shares": a Dirichlet-multinomial Bayes factor.

    The prior has a mean of `shares` and the weight of `PRIOR` observations.
    """
    if any(n and not share for n, share in zip(counts, shares, strict=True)):
        return math.inf
    known = [(n, share) for n, share in zip(counts, shares, strict=True) if share]
    marginal = _log_beta([PRIOR * share + n for n, share in known]) - _log_beta([PRIOR * s for _, s in known])
    return marginal - sum(n * math.log(share) for n, share in known)


def _log_beta(weights: Sequence[float]) -> float:
    return sum(map(math.lgamma, weights)) - math.lgamma(sum(weights))


def _log_mean(logs: Floats) -> Floats:
    """log of the mean of exp over the last axis, without overflow."""
    top = logs.max(axis=-1, keepdims=True)
    result: Floats = top[..., 0] + np.log(np.exp(logs - top).mean(axis=-1))
    return result
