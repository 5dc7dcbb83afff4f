"""Training runs over HTTP: asked for, refused, queued, cancelled and resumed."""

from pathlib import Path
from typing import Any

import pytest
from service_house import MODEL, Client, World, correct, error

from redpencil import snapshot
from redpencil.snapshot import side_of
from redpencil.types import Doubt, RunState, Split, Task


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def test_a_run_is_answered_with_its_id_at_once(world: World, client: Client) -> None:
    correct(client, world.prediction("x"), "y")
    answer = client.post("/v1/training-runs", json={"params": {"steps": 10}})
    assert answer.status_code == 202
    run = world.store.runs.get(answer.json()["id"])
    assert (run.state, run.recipe, run.params, run.trigger) == (
        RunState.QUEUED,
        "ppocr",
        {"steps": 10},
        "api",
    )


def test_a_second_run_waits_for_the_first(world: World, client: Client) -> None:
    correct(client, world.prediction("x"), "y")
    first, second = (client.post("/v1/training-runs", json={}).json()["id"] for _ in range(2))
    assert client.get(f"/v1/training-runs/{second}").json()["queue"] == 1
    listed = client.get("/v1/training-runs", params={"state": "queued"}).json()["items"]
    assert [r["id"] for r in listed] == [second, first]
    assert client.post(f"/v1/training-runs/{second}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/v1/training-runs/{second}/cancel").status_code == 409


def test_the_same_idempotency_key_starts_one_run(world: World, client: Client) -> None:
    correct(client, world.prediction("x"), "y")
    headers = {"idempotency-key": "run-1"}
    ids = {client.post("/v1/training-runs", json={}, headers=headers).json()["id"] for _ in range(3)}
    assert len(ids) == len(world.store.runs.list()) == 1


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"recipe": "nonsense"}, 422, "ppocr"),
        ({"recipe": "../etc"}, 422, "recipe"),
        ({"model": "other"}, 404, "no model 'other'"),
        ({"params": {"steps": [1]}}, 422, "params"),
        ({"params": {"lr": float("inf")}}, 422, "params"),
        ({"surprise": 1}, 422, "surprise"),
    ],
)
def test_a_run_that_cannot_be_is_refused(
    world: World, client: Client, body: Any, status: int, words: str
) -> None:
    import json

    correct(client, world.prediction("x"), "y")
    headers = {"content-type": "application/json"}
    answer = client.post("/v1/training-runs", content=json.dumps(body), headers=headers)
    assert answer.status_code == status
    assert words in error(answer)


def test_without_corrections_there_is_nothing_to_learn(client: Client) -> None:
    answer = client.post("/v1/training-runs", json={})
    assert answer.status_code == 409
    assert "no corrections" in error(answer)


def test_a_run_shows_progress_and_links(world: World, client: Client) -> None:
    correct(client, world.prediction("x"), "y")
    id = client.post("/v1/training-runs", json={}).json()["id"]
    world.store.runs.update(id, progress={"step": 1, "eta_s": 9}, mlflow_run="abc", version="2")
    view = client.get(f"/v1/training-runs/{id}").json()
    assert view["eta_s"] == 9
    assert view["links"]["run"].endswith("/#/runs/abc")
    assert view["links"]["version"].endswith("/#/models/ocr/versions/2")
    assert client.get(f"/v1/training-runs/{id}/log").json() == {"log": ""}


def test_a_family_of_your_own_is_a_recipe(
    world: World, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "mine.py").write_text("")
    correct(client, world.prediction("x"), "y")
    assert client.post("/v1/training-runs", json={"recipe": "mine"}).status_code == 422
    monkeypatch.setenv("REDPENCIL_RECIPES", str(tmp_path / "families"))
    assert client.post("/v1/training-runs", json={"recipe": "mine"}).status_code == 202


def test_a_failed_run_can_be_resumed(world: World, client: Client) -> None:
    correct(client, world.prediction("x"), "y")
    id = client.post("/v1/training-runs", json={}).json()["id"]
    assert client.post(f"/v1/training-runs/{id}/resume").status_code == 409
    world.store.runs.claim_next(MODEL)
    client.post(f"/v1/training-runs/{id}/cancel")
    world.store.runs.update(id, state=RunState.FAILED, error="MLflow was down", attempts=3)
    assert client.post(f"/v1/training-runs/{id}/resume").status_code == 202
    assert not world.store.runs.cancel_requested(id), "what was asked of the attempt before is over"
    run = world.store.runs.get(id)
    assert (run.state, run.attempts, run.error) == (RunState.QUEUED, 0, None)


@pytest.mark.parametrize("change", ["revoked", "corrected anew"])
def test_a_failed_run_does_not_go_on_with_what_counts_no_longer(
    change: str, world: World, client: Client
) -> None:
    group = next(g for g in "abcdefgh" if side_of(g) is Split.TRAIN)
    prediction = world.prediction("x", image=world.image("x", group))
    correct(client, prediction, "y")
    id = client.post("/v1/training-runs", json={}).json()["id"]
    world.store.runs.claim_next(MODEL)
    taken = snapshot.take(world.store, Task.OCR)
    world.store.runs.update(id, state=RunState.FAILED, snapshot=taken.id)
    [member] = taken.members
    if change == "revoked":
        client.post(f"/v1/corrections/{member.correction}/revoke", json={"why": "a slip"})
    else:
        correct(client, prediction, "z")
    answer = client.post(f"/v1/training-runs/{id}/resume")
    assert answer.status_code == 409
    assert member.correction in error(answer)
    assert "start a new run" in error(answer)
    world.store.doubts.add_many([Doubt(id, member.correction, 1.0, 0.9, True)])
    assert client.post(f"/v1/training-runs/{id}/resume").status_code == 202, "it left that out"
    world.store.runs.update(id, state=RunState.FAILED, version="2")
    assert client.post(f"/v1/training-runs/{id}/resume").status_code == 202, (
        "it has learned; it is to be judged"
    )
