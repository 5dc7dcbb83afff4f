"""The gate's rules, one by one, from line scores made by hand."""

import json
import time
from dataclasses import asdict, replace

import numpy as np
import pytest

from redpencil.bootstrap import interval
from redpencil.errors import BadInput
from redpencil.gate import Latency, LineScore, Worth, judge, report_markdown
from redpencil.measure import WER
from redpencil.types import Outcome, Precision

FAST = Latency(int8=(10.0, 11.0), fp32=(20.0, 21.0), champion=(10.0, 10.5))


def line(name, champion, candidate, *, fp32=None, chars=40, group=""):
    return LineScore(name, chars, candidate, candidate if fp32 is None else fp32, champion, group)


def some(number, champion, candidate, name="line", **rest):
    """Lines that all change alike."""
    return [line(f"{name}-{n}", champion, candidate, **rest) for n in range(number)]


def golden(champion=0, candidate=0, **rest):
    return some(100, champion, candidate, "golden", **rest)


def verdict(holdout=None, trained=None, base=None, latency=FAST):
    return judge(
        holdout=some(20, 4, 1, "unseen") if holdout is None else holdout,
        trained=some(80, 4, 0, "seen") if trained is None else trained,
        golden=golden() if base is None else base,
        latency=latency,
        candidate="3",
        champion="2",
        judged_at=1.5,
    )


def reason(judged, word):
    return next(reason for reason in judged.reasons if word in reason)


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


# captions: words of images, no golden set


def image_verdict(holdout=None, trained=None, base=None, **given):
    return judge(
        holdout=some(20, 4, 1, "unseen", chars=10) if holdout is None else holdout,
        trained=some(30, 4, 0, "new", chars=10) if trained is None else trained,
        golden=some(60, 2, 2, "old", chars=10) if base is None else base,
        latency=FAST,
        measure=WER,
        **given,
    )


def first_images(cider, parroted, number=20):
    """A first version whose captions are worth `cider`, a parrot's `parroted`."""
    lines = some(number, None, 5, "unseen", chars=10)
    return image_verdict(
        holdout=lines, trained=[], base=[], worth=worth(parroted, cider, number, "a red pencil")
    )


def worth(before, after, number=20, parrot=""):
    lacks = [round(1000 * (10 - points)) for points in (before, after)]
    return Worth(tuple(some(number, *lacks, "unseen", chars=Worth.UNIT)), parrot)


def test_captions_are_judged_in_the_words_of_their_measure():
    judged = image_verdict(champion="2")
    assert judged.outcome is Outcome.PASSED
    assert reason(judged, "held-out") == (
        "On 20 held-out images the word error rate against the nearest reference fell from 40.0 % to 10.0 % "
        "(95 % interval of the change -30.0 to -30.0 points): better."
    )
    assert reason(judged, "takes").startswith("An image takes 10.5 ms")
    assert reason(judged, "INT8").startswith("On all 110 judged images the word error rate")
    assert not any("line" in told or "CER" in told or "golden" in told for told in judged.reasons)


def test_an_image_of_the_earlier_ones_may_lose_one_word_in_a_hundred():
    one_in_ten = [*some(55, 1, 1, "old", chars=10), *some(5, 1, 2, "worse", chars=10)]
    assert reason(image_verdict(base=one_in_ten), "before").endswith(
        "a rise of up to 1.00 points is allowed: good."
    )
    assert image_verdict(base=one_in_ten).outcome is Outcome.PASSED
    forgot = image_verdict(base=some(60, 2, 3, "old", chars=10))
    assert forgot.outcome is Outcome.FAILED
    assert "it forgets what it could describe" in forgot.reasons[0]


def test_a_gain_on_new_images_does_not_hide_a_loss_on_earlier_ones():
    judged = image_verdict(trained=some(300, 9, 0, "new", chars=10), base=some(60, 1, 2, "old", chars=10))
    assert judged.outcome is Outcome.FAILED


def test_captions_without_earlier_ones_pass_with_a_caution():
    judged = image_verdict(base=[])
    assert judged.outcome is Outcome.PASSED
    assert "caution" in reason(judged, "trained on before")


def test_the_fates_of_earlier_images_are_told_too():
    judged = image_verdict(base=[line("gone", 0, 1, chars=10)])
    assert judged.items["gone"] == "newly_broken"
    assert judged.scores["earlier"]["wer"]["candidate"] == 0.1
    assert "golden" not in judged.scores


@pytest.mark.parametrize(
    ("cider", "outcome"), [(0.9, Outcome.PASSED), (0.1, Outcome.FAILED), (0.0, Outcome.FAILED)]
)
def test_a_first_captioner_must_do_better_than_a_parrot(cider, outcome):
    judged = first_images(cider, 0.1)
    assert judged.outcome is outcome
    assert judged.items == {}
    assert judged.scores["holdout"]["wer"]["champion"] is None, "a parrot is no champion"


def test_what_a_parrot_would_reach_is_told():
    assert reason(first_images(0.9, 0.1), "always saying") == (
        'On 20 held-out images CIDEr-D is 0.90; always saying "a red pencil" gives 0.10 '
        "(95 % interval of the change 0.80 to 0.80): better."
    )


def test_a_first_captioner_whose_lead_may_be_chance_is_inconclusive():
    lines = some(20, None, 5, "unseen", chars=10)
    even = some(19, 9900, 9900, "unseen", chars=Worth.UNIT)
    lucky = Worth((*even, line("lucky", 9900, 5000, chars=Worth.UNIT)), "so")
    judged = image_verdict(holdout=lines, trained=[], base=[], worth=lucky)
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert "may be chance" in judged.reasons[0]


def test_captions_that_come_to_say_less_of_their_images_fail_though_they_need_fewer_edits():
    judged = image_verdict(worth=worth(0.92, 0.02))
    assert judged.outcome is Outcome.FAILED
    assert judged.reasons[0] == (
        "On 20 held-out images CIDEr-D was 0.92 and is 0.02 (95 % interval of the change -0.90 to -0.90): "
        "worse, the captions say less of their images."
    )
    assert image_verdict(worth=worth(0.92, 0.92)).outcome is Outcome.PASSED
    assert image_verdict(worth=worth(0.92, 0.02, number=9)).outcome is Outcome.PASSED, "too few to say"


def test_a_first_captioner_needs_ten_held_out_images():
    judged = first_images(0, 9, number=9)
    assert judged.outcome is Outcome.INCONCLUSIVE
    assert "at least 10 held-out images are needed, and there are 9" in judged.reasons[0]
    assert judge(holdout=[], trained=[], golden=[], latency=FAST, measure=WER).outcome is Outcome.INCONCLUSIVE


# the verdict as data and page


def test_a_verdict_is_json_and_a_page():
    judged = verdict(trained=[line("broken", 0, 1), *some(80, 4, 0)])
    assert json.loads(json.dumps(asdict(judged)))["scores"]["holdout"]["interval"]["units"] == 20
    page = report_markdown(judged)
    assert page.startswith("# Version 3: passed")
    assert "| holdout | 20 | 10.00 % | 2.50 % |" in page
    assert "Newly broken corrections: `broken`." in page


def test_the_page_of_captions_shows_their_rate_and_what_they_are_worth():
    judged = image_verdict()
    worth = {"bleu4": 0.5, "cider_d": 1.25}
    captions = {"holdout": {"candidate": worth, "champion": {"bleu4": 0.4, "cider_d": 1.0}}}
    page = report_markdown(replace(judged, scores=judged.scores | {"captions": captions}))
    assert "| images | number | WER champion | WER candidate |" in page
    assert "| earlier | 60 | 20.00 % | 20.00 % |" in page
    assert "| images | captions of | BLEU4 | CIDER-D |" in page
    assert "| holdout | candidate | 0.500 | 1.250 |\n| holdout | champion | 0.400 | 1.000 |" in page
    assert "captions of" not in report_markdown(judged)


def test_the_page_tells_the_error_rate_of_letters_as_they_are_seen():
    judged = verdict()
    graphemes = {"holdout": {"candidate": {"cer": 0.05}, "champion": {"cer": 0.125}}}
    page = report_markdown(replace(judged, scores=judged.scores | {"graphemes": graphemes}))
    assert "the CER is: holdout 12.50 % > 5.00 %." in page


# the interval


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


def test_five_thousand_lines_are_judged_in_about_a_second():
    random = np.random.default_rng(3)
    lines = [line(f"l{n}", int(a), int(a) // 2) for n, a in enumerate(random.poisson(2, 5000))]
    started = time.process_time()
    verdict(holdout=lines)
    assert time.process_time() - started < 1.5
