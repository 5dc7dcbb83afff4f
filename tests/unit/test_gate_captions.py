"""The gate on captions: words of images, no golden set, and a parrot to beat."""

import pytest
from gate_parts import FAST, image_verdict, line, reason, some

from redpencil.gate import Worth, judge
from redpencil.measure import WER
from redpencil.types import Outcome


def worth(before, after, number=20, parrot=""):
    lacks = [round(1000 * (10 - points)) for points in (before, after)]
    return Worth(tuple(some(number, *lacks, "unseen", chars=Worth.UNIT)), parrot)


def first_images(cider, parroted, number=20):
    """A first version whose captions are worth `cider`, a parrot's `parroted`."""
    lines = some(number, None, 5, "unseen", chars=10)
    return image_verdict(
        holdout=lines, trained=[], base=[], worth=worth(parroted, cider, number, "a red pencil")
    )


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
