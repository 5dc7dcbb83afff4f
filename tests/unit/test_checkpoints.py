"""Checkpoints that outlive their run: listed, and one of them made a version, by HTTP and by command line."""

from collections.abc import Callable
from typing import Any

import pytest
from service_house import CAPTION, World, ended_with_checkpoints, error

from redpencil import checkpoints, snapshot
from redpencil.types import Run, RunState

PARAMS = {"lr": 0.1, "parent": None}


@pytest.fixture
def run(world: World) -> Run:
    return ended_with_checkpoints(world, PARAMS)


def test_those_of_a_run_are_listed_by_epoch(world: World, run: Run) -> None:
    items = world.client().get(f"/v1/training-runs/{run.id}/checkpoints").json()["items"]
    assert [(one["epoch"], one["scores"]["val_cider_d"]) for one in items] == [(5, 0.625), (10, 1.25)]
    assert world.client().get("/v1/training-runs/run_none/checkpoints").status_code == 404


def test_a_version_of_one_is_made_by_a_run_with_all_that_the_run_had(world: World, run: Run) -> None:
    answer = world.client().post(f"/v1/training-runs/{run.id}/checkpoints/5")
    assert answer.status_code == 202
    made = world.store.runs.get(answer.json()["id"])
    assert (made.state, made.trigger, made.recipe) == (RunState.QUEUED, "checkpoint", "catr")
    assert made.params == PARAMS | {"checkpoint": f"{run.id}/5"}
    assert made.snapshot == run.snapshot
    assert checkpoints.asked(made) == (run.id, 5)
    assert snapshot.outdated(world.store, made) == []


@pytest.mark.parametrize(
    ("of", "words"), [("run_none/5", "no run run_none"), ("{}/7", "those of epochs 5, 10")]
)
def test_what_is_not_there_is_refused(world: World, run: Run, of: str, words: str) -> None:
    wanted, _, epoch = of.format(run.id).partition("/")
    answer = world.client().post(f"/v1/training-runs/{wanted}/checkpoints/{epoch}")
    assert answer.status_code == 404
    assert words in error(answer)


def test_by_command_line(world: World, run: Run, redpencil: Callable[..., Any]) -> None:
    assert redpencil("checkpoint", run.id).output.splitlines() == [
        "epoch 5: loss 2.5, val_cider_d 0.625",
        "epoch 10: loss 2.5, val_cider_d 1.25",
    ]
    assert "(catr): queued" in redpencil("checkpoint", run.id, "10", "--no-wait").output
    (made, _) = world.store.runs.list(CAPTION)
    assert "kept none" in redpencil("checkpoint", made.id).output
    refused = redpencil("checkpoint", made.id, "3")
    assert (refused.exit_code, "it kept none" in refused.output) == (1, True)
