"""The interval of a change: the same in any order, and wrong as rarely as it says."""

import numpy as np

from redpencil.bootstrap import interval


def test_the_same_lines_in_any_order_give_the_same_interval():
    random = np.random.default_rng(1)
    rows = [(float(random.normal()), float(random.integers(20, 60)), f"doc-{n // 3}") for n in range(60)]
    shuffled = [rows[i] for i in random.permutation(len(rows))]
    assert interval(*zip(*rows, strict=True)) == interval(*zip(*shuffled, strict=True))


def test_too_few_lines_have_no_interval():
    assert interval([1.0] * 5, [10.0] * 5, list("abcde")) is None


def test_the_interval_errs_as_rarely_as_it_says():
    random, wrong, trials = np.random.default_rng(2), 0, 200
    for _ in range(trials):
        chars = random.integers(15, 60, 12)
        a, b = (random.binomial(chars, np.minimum(1, random.exponential(0.09, 12))) for _ in "ab")
        found = interval((a - b).tolist(), chars.tolist(), [str(n) for n in range(12)])
        wrong += not found.low <= 0 <= found.high
    assert wrong / trials < 0.12, "5 % and what 200 trials scatter"
