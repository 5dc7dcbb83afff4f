"""Evidence: what may be said of two arms, and when; the large simulations are among the integration tests."""

import json
import math
from itertools import product

import numpy as np
import pytest
from simulated_shop import NEVER, SETTLE_S, MirroredShop, Shop, naive_line_alarms, units_of, unpaired_alarms

from redpencil.arms import hajek
from redpencil.betting import mean_interval, quantile_interval, ratio_wealth, wealth, wealth_path
from redpencil.errors import BadInput
from redpencil.evidence import Exposure, report, sample_ratio
from redpencil.labels import WORST, Label, differences, label, settle
from redpencil.store.places import place
from redpencil.types import Correction, Kind, Task


def one(unit, arm, errors, at=0.0, chars=40, **rest):
    return Label(unit, arm, at, chars, errors, **rest)


def stream(found, name):
    return next(stream for stream in found.streams if stream.name == name)


def arms(errors_a, errors_b, number=100, **rest):
    """Units of one line each, the arms taking turns."""
    pairs = [
        (one(f"a{n}", "A", errors_a, n, **rest), one(f"b{n}", "B", errors_b, n, **rest))
        for n in range(number)
    ]
    return [item for pair in pairs for item in pair]


# betting


@pytest.mark.parametrize("mean", [0.5, 0.1])
def test_wealth_is_one_in_expectation_while_the_claim_holds(mean):
    throws = [np.array(t, float) for t in product((0, 1), repeat=8)]
    chances = [mean ** t.sum() * (1 - mean) ** (8 - t.sum()) for t in throws]
    expected = sum(p * math.exp(wealth(t, mean)) for p, t in zip(chances, throws, strict=True))
    assert expected == pytest.approx(1.0)


def test_the_ratio_check_is_one_in_expectation_while_the_claim_holds():
    expected = sum(
        math.comb(9, k) * 0.3**k * 0.7 ** (9 - k) * math.exp(ratio_wealth((9 - k, k), (0.7, 0.3)))
        for k in range(10)
    )
    assert expected == pytest.approx(1.0)


def test_the_path_of_wealth_ends_where_wealth_is():
    values = np.random.default_rng(1).random(50)
    path = wealth_path(values, 0.4)
    assert [path[9], path[-1]] == pytest.approx([wealth(values[:10], 0.4), wealth(values, 0.4)])


def test_the_interval_of_a_mean_shrinks_around_it():
    values = np.random.default_rng(2).beta(1, 9, 800)
    few, many = mean_interval(values[:50], 0.05), mean_interval(values, 0.05)
    assert few[0] < many[0] < values.mean() < many[1] < few[1]
    assert mean_interval(values[:0], 0.05) == (0.0, 1.0)


def test_a_quantile_has_an_interval_once_there_are_enough_values():
    values = list(np.random.default_rng(3).lognormal(3, 0.4, 400))
    low, high = quantile_interval(values, 0.5, 0.05)
    assert low < math.exp(3) < high
    assert quantile_interval(values[:10], 0.95, 0.05)[1] is None
    assert quantile_interval([], 0.5, 0.05) == (None, None)


# labels and units


def test_a_correction_becomes_the_label_of_the_arm_that_answered():
    correction = Correction(
        "corr_1", 5.0, Task.OCR, "image", "doc", 0, ((0, 0),) * 4, "red pencil", Kind.CORRECT, "ann"
    )
    with pytest.raises(BadInput, match="corr_1"):
        label(correction, "A")
    corrected = Correction(
        **{k: getattr(correction, k) for k in correction.__slots__} | {"predicted": "rod pencl"}
    )
    assert label(corrected, "A", shadow="red pencil") == one_of(corrected, "A", 10, 2, 0)
    assert label(corrected, "B", unit="client-7").unit == "client-7"


def one_of(correction: Correction, arm: str, chars: int, errors: int, shadow: int) -> Label:
    return Label("doc", arm, 5.0, chars, errors, shadow, None, (correction.prediction, place(correction)))


def test_of_a_caption_words_are_counted():
    said = Correction(
        "corr_1", 5.0, Task.CAPTION, "image", "doc", 0, ((0, 0),) * 4, "Two red trains.", Kind.BLIND, "ann"
    )
    said = Correction(**{k: getattr(said, k) for k in said.__slots__} | {"predicted": "two red planes wait"})
    assert label(said, "B", shadow="two red trains") == one_of(said, "B", 3, 2, 0)


def test_a_unit_counts_once_it_has_been_quiet_and_never_changes_again():
    labels = [one("doc", "A", 4, at=0), one("doc", "A", 0, at=50), one("doc", "A", 40, at=500)]
    assert settle(labels, 109, SETTLE_S, key=lambda item: item.unit) == []
    (unit,) = settle(labels, NEVER, SETTLE_S, key=lambda item: item.unit)
    assert (unit.at, unit.cer("A"), unit.exact("A")) == (110, 4 / 80, 0.5)


def test_a_line_that_is_corrected_anew_counts_as_it_was_said_before_its_unit_was_settled():
    slip = one("doc", "A", 0, at=0, line="first")
    mended, other = one("doc", "A", 4, at=20, line="first"), one("doc", "A", 0, at=30, line="second")
    (unit,) = settle([slip, mended, other], NEVER, SETTLE_S, key=lambda item: item.unit)
    assert unit.cer("A") == 4 / 80
    later = one("doc", "A", 40, at=1000, line="first")
    assert settle([slip, mended, other, later], NEVER, SETTLE_S, key=lambda item: item.unit) == [unit]


def test_looking_again_later_only_adds_units():
    labels = Shop(documents=30).labels(np.random.default_rng(4))
    for until in (500, 1500, 2500):
        seen = [item for item in labels if item.at <= until]
        early = settle(seen, until, SETTLE_S, key=lambda item: item.unit)
        assert (
            units_like(early)
            == units_like(settle(labels, NEVER, SETTLE_S, key=lambda item: item.unit))[: len(early)]
        )


def units_like(units):
    return [(unit.name, unit.at, unit.labels) for unit in units]


def test_a_rare_arm_is_held_against_several_of_the_frequent_one():
    labels = [one(f"a{n}", "A", 4, at=n) for n in range(9)] + [one("b", "B", 0, at=9)]
    assert differences(units_of(labels)) == pytest.approx([0.1])
    assert differences(units_of(arms(4, 0, 7))) == pytest.approx([0.1] * 7)


def test_hopeless_lines_count_up_to_a_bound():
    assert differences(units_of(arms(400, 0, 1))) == [WORST]


# the report


def test_a_clear_difference_is_told_with_its_interval():
    found = report(arms(8, 1), now=NEVER)
    assert found.verdict == "B"
    assert found.reasons[0].startswith("B reads better")
    unpaired = stream(found, "unpaired CER")
    assert unpaired.difference == pytest.approx(-7 / 40)
    assert unpaired.span[0] < -7 / 40 < unpaired.span[1] < 0
    assert report(arms(1, 8), now=NEVER).verdict == "A"


def test_alike_arms_are_not_told_apart():
    found = report(arms(4, 4), now=NEVER)
    assert (found.verdict, found.e_a, found.e_b) == ("not yet", 0.5, 0.5)


def test_nothing_is_said_of_nothing():
    found = report([], now=0)
    assert found.verdict == "not yet"
    assert found.arms["A"].cer is None


def test_units_still_being_corrected_do_not_count_yet():
    found = report(arms(8, 1), now=50.0)
    assert (found.verdict, found.open_units) == ("not yet", 200)
    assert "200 units are still being corrected" in " ".join(found.reasons)


def test_both_arms_are_described():
    found = report(arms(8, 0), now=NEVER, latencies_ms={"A": [10.0] * 50, "B": [20.0] * 50})
    a, b = found.arms["A"], found.arms["B"]
    assert (a.cer, a.exact, a.effort, a.units) == (0.2, 0.0, 8.0, 100)
    assert (b.cer, b.exact, b.effort, b.median_ms) == (0.0, 1.0, 0.0, 20.0)
    assert a.unit_cer_span[0] < 0.2 < a.unit_cer_span[1] <= WORST
    assert a.median_span == (10.0, 10.0)


def test_wrong_shares_withhold_the_verdict():
    found = report(arms(8, 1), now=NEVER, exposures=[Exposure(0.5, a=1000, b=1300)])
    assert (found.verdict, found.sample_ratio.alarm) == ("not yet", True)
    assert "B should have 50.0 % of the keys and has 56.5 %" in found.reasons[1]


def test_shares_may_change_while_keys_are_counted_by_the_weight_they_met():
    assert not sample_ratio([Exposure(0.1, 900, 100), Exposure(0.5, 500, 500)]).alarm
    assert sample_ratio([Exposure(0.0, 900, 1)]).alarm, "without any weight nobody may be challenged"
    assert not sample_ratio([Exposure(0.0, 900, 0)]).alarm
    assert not sample_ratio([]).alarm


def test_no_verdict_for_an_arm_that_costs_more_edits_per_answer():
    """A errs rarely but badly, B often but little: people correct what is wrong, and see only that."""
    labels = [one(f"a{n}", "A", 8, n) for n in range(100)] + [one(f"b{n}", "B", 2, n) for n in range(600)]
    found = report(labels, now=NEVER, exposures=[Exposure(0.5, 2000, 2000)])
    assert found.e_b > found.required
    assert found.verdict == "not yet"
    assert "0.60 characters per key with B and 0.40 with A" in " ".join(found.reasons)
    assert "People corrected the arms unequally often" in " ".join(found.reasons)


def paired(errors, shadow_errors, probability, number=60):
    return [
        one(f"d{n}", "A", errors, n, shadow_errors=shadow_errors, audit_probability=probability)
        for n in range(number)
    ]


def test_on_lines_that_both_read_only_the_audit_speaks_for_b():
    audited = report(paired(3, 0, 0.1), now=NEVER)
    assert audited.verdict == "B"
    assert stream(audited, "paired exact match").difference == 1.0
    assert stream(audited, "paired CER").difference == pytest.approx(-3 / 40)
    chosen = report(paired(3, 0, None), now=NEVER)
    assert (chosen.verdict, chosen.chosen_pairs) == ("not yet", 60)
    assert "60 lines that both read were chosen by people" in " ".join(chosen.reasons)


def test_on_lines_that_both_read_chosen_ones_hold_a_back():
    assert report(paired(0, 3, 0.1), now=NEVER).verdict == "A"
    assert report(paired(0, 3, 0.1) + paired(3, 0, None), now=NEVER).verdict == "not yet"


def test_absolute_quality_weighs_each_audited_line_by_what_it_stands_for():
    assert hajek([1, 0], [10, 10], [0.5, 0.1]) == pytest.approx(2 / 120)
    assert hajek([], [], []) is None
    rare = [
        one("a", "A", 10, audit_probability=0.9),
        one("b", "A", 0, audit_probability=0.1),
        one("c", "A", 40),
    ]
    found = report(rare, now=NEVER).arms["A"]
    assert (found.audited, found.audited_cer) == (2, pytest.approx((10 / 0.9) / (40 / 0.9 + 40 / 0.1)))


def test_a_report_is_json():
    labels = arms(8, 1) + paired(3, 0, 0.1)
    found = report(labels, now=NEVER, exposures=[Exposure(0.5, 100, 100)], latencies_ms={"A": [1.0], "B": []})
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["verdict"] == "B"


def test_overwhelming_evidence_stays_a_number():
    json.dumps(report(arms(20, 0, 4000), now=NEVER).to_dict(), allow_nan=False)


# looking after every observation


def test_peeking_at_alike_arms_seldom_fools_us_and_mostly_fools_a_t_test():
    random = np.random.default_rng(6)
    shops = [Shop(documents=60, mean_lines=3).labels(random) for _ in range(60)]
    assert sum(unpaired_alarms(labels, 0.05) for labels in shops) <= 8, "3 expected at most"
    assert sum(naive_line_alarms(labels) for labels in shops) > 20


def test_the_report_says_what_the_path_of_wealth_says():
    labels = Shop(documents=250, mean_lines=1, better=0.1).labels(np.random.default_rng(7))
    gains = np.array(differences(units_of(labels))) / WORST
    path = wealth_path((1 + gains) / 2, 0.5)
    for until in (3000, 12000, 26000):
        found = report([item for item in labels if item.at <= until], now=until)
        seen = stream(found, "unpaired CER")
        assert seen.log_e_b == pytest.approx(path[seen.pairs - 1])
    assert found.verdict == "B"


def test_a_mirrored_challenger_that_is_better_is_found():
    labels = MirroredShop(documents=150, better=0.1, corrected=0.1).labels(np.random.default_rng(8))
    assert report(labels, now=NEVER).verdict == "B"
