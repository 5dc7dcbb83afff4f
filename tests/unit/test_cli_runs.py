"""Training runs from the command line, by the real API: listed, stopped, let go on."""

import json
from collections.abc import Callable
from typing import Any

from service_house import CAPTION, MODEL, World

from redpencil.types import RunState
from services.schedule import queue

Run = Callable[..., Any]


def test_runs_are_listed_with_how_they_stand(world: World, redpencil: Run) -> None:
    assert "no run yet" in redpencil("runs").output
    first, second = queue(world.store, MODEL, "ppocr", "api"), queue(world.store, CAPTION, "catr", "api")
    progress = {"step": 50, "steps": 400}
    world.store.runs.update(first.id, state=RunState.RUNNING, phase="train", progress=progress)
    newest, oldest = redpencil("runs").output.splitlines()
    assert newest.endswith(f"{CAPTION}: {second.id} (catr): queued")
    assert oldest.endswith(f"{MODEL}: {first.id} (ppocr): running, train, step 50 of 400")
    assert [r["id"] for r in json.loads(redpencil("runs", "--model", MODEL, "--json").output)["items"]] == [
        first.id
    ]
    assert "older ones" in redpencil("runs", "--limit", "1").output


def test_a_run_is_cancelled(world: World, redpencil: Run) -> None:
    run = queue(world.store, MODEL, "ppocr", "api")
    world.store.runs.claim_next(MODEL)
    assert redpencil("cancel", run.id).output == f"{run.id} (ppocr): running, stopping\n"
    assert world.store.runs.cancel_requested(run.id)
    refused = redpencil("cancel", "run_none")
    assert (refused.exit_code, "no run run_none" in refused.output) == (1, True)


def test_the_latest_run_that_failed_goes_on(world: World, redpencil: Run) -> None:
    refused = redpencil("resume")
    assert (refused.exit_code, "no run has failed" in refused.output) == (1, True)
    older, latest, other = (queue(world.store, model, "ppocr", "api") for model in (MODEL, MODEL, CAPTION))
    for run in (older, latest, other):
        world.store.runs.update(run.id, state=RunState.FAILED, error="the disk is full")
    queue(world.store, MODEL, "ppocr", "api")
    assert redpencil("resume", "--model", MODEL, "--no-wait").output == f"{latest.id} (ppocr): queued\n"
    assert redpencil("resume", older.id, "--no-wait").output == f"{older.id} (ppocr): queued\n"
    assert redpencil("resume", "--no-wait").output == f"{other.id} (ppocr): queued\n"
    assert {r.state for r in world.store.runs.list()} == {RunState.QUEUED}
    again = redpencil("resume", older.id)
    assert (again.exit_code, "only a failed run can be resumed" in again.output) == (1, True)
