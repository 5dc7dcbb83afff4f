"""Assignment: sticky, in the stated shares, and monotone as a share grows."""

from dataclasses import replace
from itertools import pairwise

import pytest

from redpencil.errors import NotReady
from redpencil.traffic import Assignment, assign
from redpencil.types import ServingState, Variant

STATE = ServingState("ocr", champion="1", challenger="2", experiment="exp_1")
KEYS = [f"key-{n}" for n in range(4_000)]


def challenged(**changes):
    return {k for k in KEYS if assign(k, replace(STATE, **changes)).variant is Variant.CHALLENGER}


def mirrored(**changes):
    return {k for k in KEYS if assign(k, replace(STATE, **changes)).mirror}


def test_a_key_is_always_assigned_alike():
    state = replace(STATE, weight=0.5, mirror=0.5)
    assert [assign(key, state) for key in KEYS[:100]] == [assign(key, state) for key in KEYS[:100]]


@pytest.mark.parametrize("weight", [0.0, 0.05, 0.5, 1.0])
def test_the_challenger_gets_its_share(weight):
    deviation = (weight * (1 - weight) / len(KEYS)) ** 0.5
    assert abs(len(challenged(weight=weight)) / len(KEYS) - weight) <= 4 * deviation


def test_growing_the_weight_moves_no_key_back():
    shares = [challenged(weight=weight) for weight in (0.01, 0.1, 0.3, 0.31, 0.9, 1.0)]
    assert all(small <= large for small, large in pairwise(shares))


def test_growing_the_mirror_drops_no_mirrored_key():
    assert mirrored(mirror=0.1) <= mirrored(mirror=0.4) <= mirrored(mirror=1.0) == set(KEYS)


def test_who_is_mirrored_does_not_depend_on_who_would_be_challenged():
    both = len(challenged(weight=0.3) & mirrored(mirror=0.3))
    deviation = (0.09 * 0.91 * len(KEYS)) ** 0.5
    assert abs(both - 0.09 * len(KEYS)) <= 4 * deviation


def test_only_the_champions_answers_are_mirrored():
    state = {"weight": 0.5, "mirror": 1.0}
    assert mirrored(**state) == set(KEYS) - challenged(**state)


def test_another_experiment_draws_anew():
    first, second = challenged(weight=0.5), challenged(weight=0.5, experiment="exp_2")
    assert 0.22 < len(first & second) / len(KEYS) < 0.28


def test_without_a_challenger_the_champion_answers_alone():
    state = replace(STATE, challenger=None, weight=0.5, mirror=0.5)
    assert {assign(key, state) for key in KEYS[:50]} == {Assignment("1", Variant.CHAMPION, mirror=False)}


def test_without_a_champion_nobody_answers():
    with pytest.raises(NotReady, match="ocr"):
        assign("key", ServingState("ocr"))


def test_any_text_can_be_a_key():
    assert assign("\ud800 ключ \0", STATE).version == "1"
