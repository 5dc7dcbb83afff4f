"""The gate's rules, one by one, from line scores made by hand."""

import time

import numpy as np
import pytest
from gate_parts import FAST, golden, line, reason, some, verdict

from redpencil.errors import BadInput
from redpencil.gate import Latency, LineScore, judge
from redpencil.types import Outcome, Precision


def test_a_candidate_that_learned_and_forgot_nothing_passes_as_int8():
    judged = verdict()
    assert judged.outcome is Outcome.PASSED
    assert judged.precision is Precision.INT8
    assert (judged.candidate, judged.champion, judged.judged_at) == ("3", "2", 1.5)


def test_the_reason_is_a_sentence_with_numbers():
    assert reason(verdict(), "held-out") == (
        "On 20 held-out corrected lines CER fell from 10.0 % to 2.5 % "
        "(95 % interval of the change -7.5 to -7.5 points): better."
    )


# precision


def test_int8_may_lose_one_character_in_a_thousand():
    base = [*golden(10, 10, fp32=10), line("worse", 10, 14, fp32=10)]
    assert verdict(base=base).precision is Precision.INT8


def test_fp32_is_judged_where_int8_loses_more():
    judged = verdict(base=golden(2, 3, fp32=2), latency=Latency((10,), (12,), (10,)))
    assert judged.precision is Precision.FP32
    assert judged.outcome is Outcome.PASSED
    assert judged.scores["golden"]["cer"] == {
        "champion": 0.05,
        "candidate": 0.05,
        "int8": 0.075,
        "fp32": 0.05,
    }
    assert "INT8 loses too much" in reason(judged, "judged lines")


def test_int8_is_judged_after_all_where_fp32_would_be_too_slow():
    judged = verdict(base=golden(2, 3, fp32=2))
    assert judged.precision is Precision.INT8
    assert judged.outcome is Outcome.FAILED, "the golden set got worse, as INT8"


def test_a_candidate_without_int8_is_judged_as_fp32():
    lines = [LineScore(f"l{n}", 40, None, 1, 4) for n in range(20)]
    base = [LineScore(f"g{n}", 40, None, 0, 0) for n in range(20)]
    judged = judge(holdout=lines, trained=[], golden=base, latency=Latency(fp32=(10.0,), champion=(10.0,)))
    assert (judged.precision, judged.outcome) == (Precision.FP32, Outcome.PASSED)


# the golden set


def test_forgetting_beyond_margin_and_chance_fails():
    judged = verdict(base=golden(1, 2))
    assert judged.outcome is Outcome.FAILED
    assert "golden lines CER rose from 2.5 % to 5.0 %" in judged.reasons[0], "the worst comes first"


def test_a_rise_beyond_the_margin_that_may_be_chance_is_inconclusive():
    judged = verdict(base=[*golden(1, 1), line("one", 0, 10)])
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert "may be chance" in reason(judged, "golden")


def test_a_rise_within_five_per_cent_passes_even_when_it_is_certain():
    judged = verdict(base=golden(100, 104, chars=1000))
    assert judged.outcome is Outcome.PASSED


def test_small_losses_of_many_versions_do_not_add_up_unseen():
    """Each version may lose 0.1 points beside the one before; from the first one on so much in all."""
    base = golden(100, 104, chars=4000)
    assert verdict(base=base).outcome is Outcome.PASSED
    assert verdict(base=base, start=0.0251).outcome is Outcome.PASSED
    judged = verdict(base=base, start=0.0241)
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert "CER on 100 golden lines rose from 2.4 % to 2.6 %: small losses add up" in judged.reasons[0]
    no_worse = golden(104, 104, chars=4000)
    assert verdict(base=no_worse, start=0.0241).outcome is Outcome.PASSED, "its champion did that"


def test_without_a_golden_set_forgetting_cannot_be_judged():
    assert verdict(base=[]).outcome is Outcome.INCONCLUSIVE


# held-out corrections


def test_getting_worse_on_the_holdout_fails():
    assert verdict(holdout=some(20, 1, 3)).outcome is Outcome.FAILED


def test_no_gain_on_enough_holdout_lines_is_inconclusive():
    judged = verdict(holdout=some(10, 3, 3))
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert "stayed at 7.50 %" in reason(judged, "held-out")


def test_a_gain_on_one_line_of_twenty_may_be_chance():
    assert verdict(holdout=[*some(19, 3, 3), line("lucky", 20, 0)]).outcome is Outcome.INCONCLUSIVE


def test_few_holdout_lines_may_only_not_be_worse_and_bring_a_caution():
    judged = verdict(holdout=some(9, 3, 3))
    assert judged.outcome is Outcome.PASSED
    assert "caution" in reason(judged, "held-out")
    assert verdict(holdout=[*some(8, 3, 3), line("worse", 3, 4)]).outcome is Outcome.INCONCLUSIVE


def test_no_holdout_line_at_all_is_no_obstacle():
    judged = verdict(holdout=[])
    assert judged.outcome is Outcome.PASSED
    assert judged.scores["holdout"]["cer"]["champion"] is None


def old_and_new(old: int, new: int) -> list[LineScore]:
    """100 lines of ten old documents, 12 of two new ones, and what a candidate makes of 3 and 9 errors."""
    lines = [line(f"old-{n}", 3, old, group=f"old-{n // 10}") for n in range(100)]
    return lines + [line(f"new-{n}", 9, new, group=f"new-{n // 6}") for n in range(12)]


NEW = {f"new-{n}" for n in range(12)}


def test_new_held_out_lines_show_a_gain_that_drowns_among_old_ones():
    assert verdict(holdout=old_and_new(3, 2)).outcome is Outcome.INCONCLUSIVE
    judged = verdict(holdout=old_and_new(3, 2), fresh=NEW)
    assert judged.outcome is Outcome.PASSED
    assert "On 12 new held-out corrected lines CER fell" in reason(judged, "new held-out")
    assert "only 2 documents" in reason(judged, "Caution")
    assert verdict(holdout=old_and_new(4, 2), fresh=NEW).outcome is Outcome.INCONCLUSIVE, "worse in all"
    assert verdict(holdout=old_and_new(3, 9), fresh=NEW).outcome is Outcome.INCONCLUSIVE, "no gain"
    assert verdict(holdout=old_and_new(3, 15), fresh=NEW).outcome is Outcome.FAILED
    one = {f"new-{n}" for n in range(6)}
    assert verdict(holdout=old_and_new(3, 2), fresh=one).outcome is Outcome.INCONCLUSIVE, "one document"


def test_what_is_newly_learned_needs_no_holdout_of_its_own_where_nothing_is_lost():
    """The champion was judged by all that is held out, and learned the first 50 of 80 trained lines."""
    learned = [*some(50, 0, 0, "known"), *some(30, 4, 0, "taught")]
    fresh = {x.key for x in learned[50:]}
    judged = verdict(holdout=some(20, 3, 3), trained=learned, fresh=fresh)
    assert judged.outcome is Outcome.PASSED
    assert "not worse; caution, only 0 of them came since" in reason(judged, "held-out")
    worse = [*some(19, 3, 3), line("worse", 3, 4)]
    assert verdict(holdout=worse, trained=learned, fresh=fresh).outcome is Outcome.INCONCLUSIVE
    known = [*some(50, 4, 0, "known"), *some(30, 4, 4, "taught")]
    judged = verdict(holdout=some(20, 3, 3), trained=known, fresh=fresh)
    assert judged.outcome is Outcome.INCONCLUSIVE, "what the champion had learned shows no gain"
    assert "no gain on those that are new" in reason(judged, "trained on")
    assert verdict(holdout=some(20, 3, 3), trained=known, fresh=()).outcome is Outcome.INCONCLUSIVE


def test_a_sure_gain_on_old_held_out_lines_is_enough():
    for trained in ([], some(30, 0, 0, "seen")):
        assert verdict(holdout=some(100, 4, 1), trained=trained, fresh=()).outcome is Outcome.PASSED


def test_lines_of_one_document_are_drawn_together():
    documents = [g for g in range(10) for _ in range(10)]
    gains = [8 if g in (0, 1) else -1 for g in documents]
    lines = [line(f"l{n}", 10, 10 - gain, group=f"doc-{documents[n]}") for n, gain in enumerate(gains)]
    assert verdict(holdout=lines).outcome is Outcome.INCONCLUSIVE
    alone = [line(f"l{n}", 10, 10 - gain) for n, gain in enumerate(gains)]
    assert verdict(holdout=alone).outcome is Outcome.PASSED, "as if each line were a document of its own"


def test_lines_stand_in_for_few_documents_that_must_agree():
    agreed = [line(f"l{n}", 4, 1, group=f"doc-{n % 3}") for n in range(20)]
    judged = verdict(holdout=agreed)
    assert judged.outcome is Outcome.PASSED
    assert "only 3 documents" in reason(judged, "Caution")
    torn = [*agreed, *some(2, 4, 5, "odd", group="doc-3")]
    assert verdict(holdout=torn).outcome is Outcome.INCONCLUSIVE
    unmoved = [*agreed, *some(2, 0, 0, "same", group="doc-3")]
    assert verdict(holdout=unmoved).outcome is Outcome.PASSED, "a document that stayed says nothing"
    one = [line(f"l{n}", 4, 4 if n % 3 else 0, group=f"doc-{n % 3}") for n in range(20)]
    assert verdict(holdout=one).outcome is Outcome.INCONCLUSIVE, "and one alone is no proof"


# trained corrections


def test_corrections_once_learned_must_not_be_lost():
    judged = verdict(trained=some(30, 0, 2))
    assert judged.outcome is Outcome.FAILED
    assert "0 fixed, 30 newly broken: worse" in reason(judged, "trained on")
    assert verdict(trained=[*some(30, 2, 2), line("one", 0, 1)]).outcome is Outcome.INCONCLUSIVE


def test_with_a_small_holdout_the_gain_must_show_in_what_was_trained_on():
    judged = verdict(holdout=some(5, 3, 2), trained=some(30, 3, 3))
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert "no gain" in reason(judged, "trained on")
    assert verdict(holdout=some(5, 3, 2), trained=[line("one", 3, 0)]).outcome is Outcome.PASSED
    assert verdict(holdout=some(5, 3, 2), trained=some(30, 30, 9)).outcome is Outcome.PASSED, (
        "much less wrong"
    )
    assert verdict(holdout=some(5, 3, 2), trained=[]).outcome is Outcome.INCONCLUSIVE


def test_every_correction_gets_its_fate():
    trained = [line("a", 3, 0), line("b", 3, 1), line("c", 0, 1), line("d", 0, 0)]
    judged = verdict(holdout=[line("e", 1, 0)], trained=trained)
    expected = {"a": "fixed", "b": "still_wrong", "c": "newly_broken", "d": "still_right", "e": "fixed"}
    assert judged.items == expected, "golden lines are no corrections"
    assert judged.scores["trained"]["counts"] == dict.fromkeys(
        ("fixed", "still_wrong", "newly_broken", "still_right"), 1
    )


# latency, first versions, odd input


def test_a_candidate_half_again_as_slow_fails():
    judged = verdict(latency=Latency((16.0,), (16.0,), (10.0,)))
    assert judged.outcome is Outcome.FAILED
    assert "1.60 times as long" in judged.reasons[0]


def test_unmeasured_time_is_inconclusive():
    assert verdict(latency=Latency()).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(("errors", "outcome"), [(1, Outcome.PASSED), (5, Outcome.FAILED)])
def test_a_first_version_needs_only_to_read_the_golden_set(errors, outcome):
    judged = judge(holdout=[], trained=[], golden=golden(None, errors), latency=FAST, candidate="1")
    assert judged.outcome is outcome
    assert judged.items == {}


def test_a_first_version_without_golden_lines_is_inconclusive():
    assert judge(holdout=[], trained=[], golden=[], latency=FAST).outcome is Outcome.INCONCLUSIVE


def test_a_champion_that_read_only_some_lines_is_a_mistake():
    with pytest.raises(BadInput, match="champion"):
        verdict(base=golden(None, 1))


def test_five_thousand_lines_are_judged_in_about_a_second():
    random = np.random.default_rng(3)
    lines = [line(f"l{n}", int(a), int(a) // 2) for n, a in enumerate(random.poisson(2, 5000))]
    started = time.process_time()
    verdict(holdout=lines)
    assert time.process_time() - started < 1.5
