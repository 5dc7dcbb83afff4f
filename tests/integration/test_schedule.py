"""Learning rate, score and patience."""

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import schedule
from training.hyper import Hyper
from training.schedule import Patience, score


def rate(step: int, total: int, warmup: float, waited: int = 0, **hyper: object) -> float:
    return schedule.rate(Hyper(warmup=warmup, **hyper), step, total, Patience(0, waited=waited))


@given(st.integers(1, 3000), st.floats(0, 1))
def test_the_rate_stays_within_its_bounds(total: int, warmup: float) -> None:
    assert all(0 < rate(step, total, warmup) <= 1 for step in range(total))


@given(st.integers(20, 1000), st.floats(0, 0.5))
def test_the_rate_rises_during_warm_up_and_falls_after(total: int, warmup: float) -> None:
    rates = [rate(step, total, warmup) for step in range(total)]
    top = rates.index(max(rates))
    assert top <= max(1, round(total * warmup))
    assert all(a <= b for a, b in pairwise(rates[: top + 1]))
    assert all(a >= b for a, b in pairwise(rates[top:]))


def test_the_rate_warms_up_linearly_and_ends_near_nothing() -> None:
    rates = [rate(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[54] == pytest.approx(0.5, abs=0.02)
    assert rates[-1] < 0.001


def test_steps_down_come_every_so_many_epochs() -> None:
    by_step = {"schedule": "step", "decay": 0.9, "decay_every": 2, "report_every": 10}
    rates = [rate(step, 100, 0.0, **by_step) for step in (1, 19, 20, 39, 40)]
    assert rates == pytest.approx([1, 1, 0.9, 0.9, 0.81])


def test_a_plateau_steps_down_when_it_has_lasted() -> None:
    on_plateau = {"schedule": "plateau", "decay": 0.5, "decay_every": 3}
    assert [rate(50, 100, 0.0, waited, **on_plateau) for waited in (0, 2, 3, 6)] == [1, 1, 0.5, 0.25]


def seen(scores: list[float]) -> Patience:
    patience = Patience(0)
    for epoch, value in enumerate(scores, 1):
        patience.saw(epoch, value)
    return patience


def test_vain_epochs_with_better_ones_between_are_no_plateau() -> None:
    assert seen([5, 6, 4, 6, 3, 6, 2, 6, 1, 6]).steps_down(2) == 0


def test_a_rate_that_stepped_down_stays_down_also_after_a_restart() -> None:
    patience, again = seen([5, 6, 6, 4, 7, 3, 8, 8, 8]), Patience(0)
    again.restore(patience.state())
    for one in (patience, again):
        assert [one.steps_down(2), one.steps_down(3)] == [2, 1]
        assert not one.saw(10, 8)
        assert one.steps_down(2) == 3


def test_a_lower_cer_wins_whatever_the_loss() -> None:
    assert score(loss=9.0, cer=0.0100) < score(loss=0.1, cer=0.0101)


def test_between_equal_cers_the_loss_decides() -> None:
    assert score(loss=0.1, cer=0.0) < score(loss=0.2, cer=0.0)


def test_without_validation_the_loss_is_the_score() -> None:
    assert score(loss=0.3) == 0.3


def test_patience_is_spent_after_so_many_epochs_without_a_better_one() -> None:
    patience = Patience(limit=2)
    assert [patience.saw(e, s) for e, s in enumerate([3.0, 2.0, 2.0, 1.9, 5.0])] == [
        True,
        True,
        False,
        True,
        False,
    ]
    assert not patience.spent
    assert not patience.saw(5, 1.95)
    assert patience.spent
    assert (patience.best, patience.best_epoch) == (1.9, 3)


def test_no_limit_means_endless_patience() -> None:
    patience = Patience(limit=0)
    for epoch in range(50):
        patience.saw(epoch, 1.0)
    assert not patience.spent


def test_patience_survives_a_restart() -> None:
    before, after = Patience(3), Patience(3)
    before.saw(1, 0.5)
    before.saw(2, 0.6)
    after.restore(before.state())
    assert after == before
    assert Patience(3).best == inf
