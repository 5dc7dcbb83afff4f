"""Whoever looks after every observation is told A or B wrongly at most as often as stated.

Each figure is held against the binomial scatter of its number of trials. The same streams, looked at
with a repeated t-test, raise false alarms far above the level: so these tests can fail.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from simulated_shop import (
    NULLS,
    MirroredShop,
    Shop,
    alarms,
    naive_document_alarms,
    naive_line_alarms,
    paired_alarms,
    preferences,
    units_of,
    unpaired_alarms,
)

from redpencil.betting import mean_interval, ratio_wealth
from redpencil.evidence import report
from redpencil.labels import WORST, Label, differences

ALPHA = 0.05


def allowed(trials: int, rate: float = ALPHA) -> float:
    """The rate and three standard deviations of its count."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / trials)


def share(alarmed: list[bool]) -> float:
    return sum(alarmed) / len(alarmed)


@pytest.mark.parametrize("shop", NULLS.values(), ids=NULLS.keys())
def test_alike_arms_are_told_apart_at_most_as_often_as_stated(shop):
    random, trials = np.random.default_rng(11), 250
    assert share([unpaired_alarms(shop.labels(random), ALPHA) for _ in range(trials)]) <= allowed(trials)


def test_raising_the_weight_after_a_long_easy_time_does_not_fool_it():
    """Units that found no partner must not wait for the hard documents of another season."""
    shop = Shop(
        documents=1200,
        weight=lambda document: 0.45 if document < 800 else 0.9,
        drift=lambda document: 0.6 if document < 800 else 2.5,
    )
    random, trials = np.random.default_rng(13), 40
    assert share([unpaired_alarms(shop.labels(random), ALPHA) for _ in range(trials)]) <= allowed(trials)


def test_small_skewed_and_hopeless_documents_do_not_fool_it():
    """Equal means, very unlike shapes: A always errs a little, B hardly ever but then hopelessly."""
    random, trials = np.random.default_rng(12), 400
    wrong = []
    for _ in range(trials):
        in_b = random.random(300) < 0.5
        cer = np.where(in_b, (random.random(300) < 0.2) * WORST, 0.05)
        labels = [Label(f"d{n}", "B" if in_b[n] else "A", n, 1000, int(1000 * cer[n])) for n in range(300)]
        wrong.append(unpaired_alarms(labels, ALPHA))
    assert share(wrong) <= allowed(trials)


@pytest.mark.parametrize("fooled", [naive_line_alarms, naive_document_alarms])
def test_a_t_test_repeated_after_every_label_is_fooled(fooled):
    random, trials = np.random.default_rng(13), 100
    shop = NULLS["whole documents in one arm"]
    assert share([fooled(shop.labels(random)) for _ in range(trials)]) > allowed(trials)


MIRRORS = {
    "people correct a third of what they see wrong": MirroredShop(documents=200),
    "nearly all of it": MirroredShop(documents=200, corrected=0.9, audited=0.2),
    "single lines": MirroredShop(documents=600, mean_lines=1, corrected=0.6),
}


@pytest.mark.parametrize("shop", MIRRORS.values(), ids=MIRRORS.keys())
def test_alike_versions_on_mirrored_lines_are_told_apart_at_most_as_often_as_stated(shop):
    random, trials = np.random.default_rng(14), 150
    assert share([paired_alarms(shop.labels(random), ALPHA) for _ in range(trials)]) <= allowed(trials)


def test_counting_what_people_chose_to_correct_for_both_would_be_fooled():
    random, trials = np.random.default_rng(15), 60
    shop = MIRRORS["nearly all of it"]
    assert share([alarms(preferences(shop.labels(random)), ALPHA) for _ in range(trials)]) > allowed(trials)


@pytest.mark.parametrize(
    ("documents", "better", "power"), [(200, 0.25, 0.75), (400, 0.5, 0.5), (200, 4.0, 0.75)]
)
def test_a_real_difference_is_found(documents, better, power):
    random, trials = np.random.default_rng(16), 40
    shop = Shop(documents=documents, better=better)
    assert share([unpaired_alarms(shop.labels(random), ALPHA) for _ in range(trials)]) >= power


def test_a_better_challenger_on_mirrored_lines_is_found_sooner():
    random, trials = np.random.default_rng(17), 40
    shop = MirroredShop(documents=120, better=0.25, corrected=0.1)
    assert share([paired_alarms(shop.labels(random), ALPHA) for _ in range(trials)]) >= 0.75


def test_the_report_itself_peeked_at_keeps_its_word():
    """The whole report, asked again and again as labels come in, on alike arms with a mirror."""
    random, trials = np.random.default_rng(18), 20
    fooled = []
    for _ in range(trials):
        labels = [*Shop(documents=60).labels(random), *MirroredShop(documents=60).labels(random)]
        times = sorted({item.at for item in labels})[::40]
        seen = [report([i for i in labels if i.at <= now], now=now, alpha=ALPHA).verdict for now in times]
        fooled.append(any(verdict != "not yet" for verdict in seen))
    assert share(fooled) <= allowed(trials)


def test_the_interval_of_the_difference_holds_at_all_times():
    random, trials, missed = np.random.default_rng(19), 150, []
    truth = _true_difference()
    for _ in range(trials):
        gains = np.array(differences(units_of(Shop(documents=150, mean_lines=1, better=0.5).labels(random))))
        spans = [mean_interval((1 + gains[:n] / WORST) / 2, ALPHA) for n in range(5, len(gains), 10)]
        missed.append(any(not low <= (1 + truth / WORST) / 2 <= high for low, high in spans))
    assert share(missed) <= allowed(trials)


def _true_difference() -> float:
    labels = Shop(documents=60_000, mean_lines=1, better=0.5).labels(np.random.default_rng(20))
    means = {
        arm: np.mean([min(WORST, item.errors / item.chars) for item in labels if item.arm == arm])
        for arm in "AB"
    }
    return float(means["A"] - means["B"])


def test_the_sample_ratio_check_seldom_cries_wolf_and_finds_a_leak():
    random, trials = np.random.default_rng(21), 150

    def cries(true: float) -> bool:
        hits = np.cumsum(random.random(3000) < true)
        return any(
            ratio_wealth((n - int(hits[n - 1]), int(hits[n - 1])), (0.9, 0.1)) > math.log(100)
            for n in range(1, 3001, 5)
        )

    assert share([cries(0.1) for _ in range(trials)]) <= allowed(trials, 0.01)
    assert share([cries(0.14) for _ in range(20)]) >= 0.9
