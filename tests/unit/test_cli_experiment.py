"""Experiments from the command line, by the real API: the one that goes on needs no id."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from service_house import CAPTION, MODEL, World

Run = Callable[..., Any]


@pytest.fixture
def going(world: World, redpencil: Run) -> str:
    """The id of an experiment that has begun."""
    world.serve("1")
    world.version("2")
    return str(json.loads(redpencil("experiment", "start", "2", "--weight", "0.5", "--json").output)["id"])


def test_the_experiment_that_goes_on_is_shown_changed_and_ended_without_an_id(
    world: World, redpencil: Run, going: str
) -> None:
    assert f"id: {going}\n" in redpencil("experiment", "show").output
    assert redpencil("experiment", "set", "--weight", "0.1").exit_code == 0
    assert world.store.serving.get(MODEL).weight == 0.1
    assert json.loads(redpencil("experiment", "end", "--why", "enough", "--json").output)["id"] == going
    assert world.store.experiments.get(going).why == "enough"


def test_one_that_has_ended_is_shown_by_its_id(redpencil: Run, going: str) -> None:
    assert redpencil("experiment", "end", going).exit_code == 0
    for words in (("show",), ("set", "--weight", "0.1"), ("end",)):
        refused = redpencil("experiment", *words)
        assert refused.exit_code == 1
        assert f"no experiment of {MODEL} is going on; the last one was {going}" in refused.output
    assert json.loads(redpencil("experiment", "show", going, "--json").output)["id"] == going


def test_of_another_model_none_is_meant(redpencil: Run, going: str) -> None:
    refused = redpencil("experiment", "end", "--model", CAPTION)
    assert (refused.exit_code, refused.output) == (1, f"redpencil: no experiment of {CAPTION} is going on\n")
    assert redpencil("experiment", "end", "--model", MODEL).exit_code == 0


def test_who_begins_a_second_one_is_told_how_to_end_the_first(redpencil: Run, going: str) -> None:
    refused = redpencil("experiment", "start", "2", "--mirror", "0.5")
    assert refused.exit_code == 1
    assert f"an experiment of {MODEL}, {going}, is going on already" in refused.output
    assert f"`redpencil experiment end {going}`" in refused.output
