"""What the command line tells of the answers that the services give."""

from typing import Any

import pytest
from service_house import MODEL, World

from redpencil.types import Outcome, RunState
from services import show, told
from services.schedule import queue


def overview(world: World) -> list[str]:
    return list(told.overview(world.client().get("/v1/status").json()))


def test_a_fresh_house_says_what_is_down_and_how_to_begin(world: World) -> None:
    said = overview(world)
    assert "serving DOWN (http://127.0.0.1:1/health does not answer" in said[0]
    assert "scheduler up" in said[0]
    assert f"{MODEL}: no version yet: `redpencil import` brings one" in "\n".join(said)


def test_what_is_served_waits_and_was_corrected_is_told_in_a_few_lines(world: World) -> None:
    world.serve("1", "2")
    made = world.prediction("x", "y")
    world.client().post("/v1/corrections", json={"prediction_id": made.id, "region": "p0-b0", "text": "z"})
    world.tick()
    said = overview(world)
    assert f"{MODEL}: version 2 is served, 1 is kept warm to go back to" in said
    assert "  registry and serving both say 2" in said
    assert "  1 wait for review; 1 corrected, 1 of them new" in said


def test_a_run_is_told_as_it_goes_and_as_it_ends(world: World) -> None:
    world.serve("1")
    run = queue(world.store, MODEL, "ppocr", "api")
    assert f"  {run.id} (ppocr): queued" in overview(world)
    far = {"step": 50, "steps": 400, "val_cer": 0.031, "eta_s": 75.4}
    world.store.runs.update(run.id, state=RunState.RUNNING, phase="train", progress=far)
    here = "step 50 of 400, validation CER 3.10 %, some 1 min 15 s left"
    assert f"  {run.id} (ppocr): running, train, {here}" in overview(world)
    over = {"started_at": 100.0, "finished_at": 325.0}
    world.store.runs.update(run.id, state=RunState.FAILED, error="the disk is full", **over)
    failed = f"  last run: {run.id} (ppocr) failed after 3 min 45 s: the disk is full"
    assert failed in overview(world)
    world.store.runs.update(run.id, version="2")
    assert f"{failed}; version 2" in overview(world)


def test_a_refusal_is_told_with_its_reason(world: World) -> None:
    world.serve("1")
    world.version("2")
    world.judge("2", Outcome.FAILED, "it forgets what it could read.")
    world.client().post(f"/v1/models/{MODEL}/promote", json={"version": "2"})
    (said,) = [line for line in overview(world) if line.startswith("  refused ")]
    assert "version 2, " in said
    assert "it forgets what it could read." in said


def test_an_experiment_is_told_with_its_id_and_how_to_end_it(world: World) -> None:
    world.serve("1")
    world.version("2")
    assert "exp_" not in "\n".join(overview(world))
    body = {"challenger": "2", "weight": 0.25}
    id = world.client().post("/v1/experiments", json=body).json()["id"]
    said = "\n".join(overview(world))
    assert "2 challenges it (25% of the traffic, mirrored 0%)" in said
    assert f"  {id}: `redpencil experiment show --model {MODEL}`" in said
    assert f"`redpencil experiment end --model {MODEL}` ends it" in said


@pytest.mark.parametrize(
    ("fact", "shown"),
    [
        ({"created_at": 43_200.0}, "created_at: 1970-01-01 "),
        ({"free_bytes": 73_591_496_704}, "free_bytes: 73.6 GB"),
        ({"up": True}, "up: yes"),
        ({"ancestors": []}, "ancestors: none"),
        ({"train": list(range(8))}, "train: 0, 1, 2, 3, 4, 5, 6, 7\n"),
        ({"train": list(range(300))}, "train: 0, 1, 2, 3, 4, 5, 6, 7, and 292 more (--json lists all)\n"),
        ({"cer": 0.01234}, "cer: 0.012"),
    ],
)
def test_the_name_of_a_fact_says_how_it_is_read(
    fact: dict[str, Any], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show.tree(fact)
    assert capsys.readouterr().out.startswith(shown)
