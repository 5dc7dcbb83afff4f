"""Captions through the services: runs, versions and experiments of both models, side by side."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_house import CAPTION, MODEL, Client, World, caption, error
from starlette.responses import JSONResponse

from redpencil.settings import Settings
from redpencil.types import Outcome, Variant
from services import models, promote, runs
from services.schedule import Schedule


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(models, "SETTLE_S", 0.01)  # the reconciler stands still here
    monkeypatch.setattr(runs, "recipes", lambda: ["catr", "ppocr"])
    world = World(tmp_path, serving_port=1, mlflow_port=2)  # nothing listens there
    yield world
    world.house.judge.stop()
    world.store.close()


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def correct(client: Client, **body: Any) -> httpx.Response:
    return client.post("/v1/corrections", json=body)


# --- runs ---------------------------------------------------------------------------------------


def test_each_model_is_trained_by_its_own_recipe_on_its_own_corrections(world: World, client: Client) -> None:
    correct(client, prediction_id=world.prediction("x").id, text="y")
    refused = client.post("/v1/training-runs", json={"model": CAPTION})
    assert (refused.status_code, "captions" in error(refused)) == (409, True)
    correct(client, prediction_id=caption(world, "a dog").id, text="a cat")
    run = client.post("/v1/training-runs", json={"model": CAPTION, "recipe": None}).json()
    assert (run["model"], run["recipe"]) == (CAPTION, "catr")
    assert client.post("/v1/training-runs", json={}).json()["recipe"] == "ppocr"
    named = client.post("/v1/training-runs", json={"model": CAPTION, "recipe": "ppocr"}).json()
    assert named["recipe"] == "ppocr"
    usual = client.get("/v1/training-runs/recipes").json()["usual"]
    assert usual == {"ocr": "ppocr", "caption": "catr"}


def test_a_schedule_counts_each_models_own_corrections(world: World, client: Client) -> None:
    schedule = Schedule(world.store, Settings(home=world.settings.home, retrain_after=2))
    for text in ("one", "two"):
        correct(client, prediction_id=caption(world, text).id, text="x")
    assert (schedule.new_corrections(MODEL), schedule.new_corrections(CAPTION)) == (0, 2)
    assert schedule.due(MODEL) is None
    run = schedule.due(CAPTION)
    assert run is not None
    assert (run.model, run.recipe) == (CAPTION, "catr")


# --- versions -----------------------------------------------------------------------------------


def test_caption_versions_are_adopted_promoted_and_rolled_back(world: World, client: Client) -> None:
    world.serve("1")
    world.version("1", model=CAPTION)
    assert world.tick(CAPTION).state == "agreed"
    world.version("2", model=CAPTION)
    assert client.post(f"/v1/models/{CAPTION}/promote", json={"version": "2"}).json()["champion"] == "2"
    world.tick(CAPTION)
    assert world.registry.aliases[CAPTION, "champion"] == "2"
    assert client.post(f"/v1/models/{CAPTION}/rollback", json={}).json()["champion"] == "1"
    entered = [e.action for e in promote.entries(world.store, CAPTION) if e.action != "aliases"]
    assert entered == ["rollback", "promote", "adopt"]
    assert world.store.serving.get(MODEL).champion == "1"
    assert {e["model"] for e in client.get("/v1/ledger").json()["items"]} == {MODEL, CAPTION}


def test_a_caption_version_that_fails_is_refused(world: World, client: Client) -> None:
    world.serve("1", model=CAPTION)
    world.version("2", Outcome.FAILED, "describes worse", CAPTION)
    answer = client.post(f"/v1/models/{CAPTION}/promote", json={"version": "2"})
    assert (answer.status_code, "describes worse" in error(answer)) == (409, True)


def test_a_captions_lineage_goes_both_ways(world: World, client: Client) -> None:
    world.serve("1", model=CAPTION)
    made = caption(world, "a dog")
    kept = correct(client, prediction_id=made.id, text="two dogs").json()
    back = client.get(f"/v1/lineage/{kept['id']}").json()
    assert back["came_from"]["version"]["version"] == f"{CAPTION}/1"
    assert client.get(f"/v1/lineage/{CAPTION}/1").json()["led_to"]["predictions"] == 1


# --- experiments --------------------------------------------------------------------------------


def test_captions_are_compared_by_their_own_corrections(world: World, client: Client) -> None:
    world.serve("1", model=CAPTION)
    world.version("2", model=CAPTION)
    body = {"model": CAPTION, "challenger": "2", "weight": 0.5}
    id = client.post("/v1/experiments", json=body).json()["id"]
    for n, colour in enumerate(("brown", "black", "white", "red")):
        arm = {"variant": Variant.CHALLENGER, "version": "2"} if n % 2 else {}
        correct(client, prediction_id=caption(world, f"{colour} dog", **arm).id, text="a dog")
    report = client.get(f"/v1/experiments/{id}").json()["report"]
    assert (report["arms"]["A"]["labels"], report["arms"]["B"]["labels"]) == (2, 2)
    assert client.get("/v1/experiments").json()["items"] == []
    listed = client.get("/v1/experiments", params={"model": CAPTION}).json()["items"]
    assert [e["id"] for e in listed] == [id]


def test_what_was_said_of_a_shown_caption_is_held_against_no_unseen_one(world: World, client: Client) -> None:
    """An accepted caption fits the arm that was shown; another wording would have been as true."""
    world.serve("1", model=CAPTION)
    world.version("2", model=CAPTION)
    body = {"model": CAPTION, "challenger": "2", "mirror": 1.0}
    id = client.post("/v1/experiments", json=body).json()["id"]
    for kind, pairs in (("accept", 0), ("blind", 1)):
        shown = caption(world, f"{kind} dog")
        image = world.store.images.get(shown.image)
        caption(
            world, "a brown dog", version="2", variant=Variant.CHALLENGER, image=image, mirror_of=shown.id
        )
        stated = {"text": "a brown dog"} if kind == "blind" else {}
        assert correct(client, prediction_id=shown.id, kind=kind, **stated).status_code == 201
        assert client.get(f"/v1/experiments/{id}").json()["report"]["chosen_pairs"] == pairs


# --- standing -----------------------------------------------------------------------------------


def test_a_model_that_nobody_has_brought_is_quiet(
    world: World, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    world.serve("1")
    with caplog.at_level(logging.INFO):
        assert world.tick(CAPTION).state == "empty"
        world.tick(CAPTION)
    assert caplog.text == ""
    assert CAPTION not in {model for model, _ in world.registry.versions}
    status = client.get("/v1/status").json()
    assert status["parts"]["reconciler"]["up"] is True
    assert (status["models"][CAPTION]["versions"], status["models"][CAPTION]["task"]) == (0, "caption")
    assert 'redpencil_registry_agrees{model="caption"} 1.0' in client.get("/metrics").text
    assert list(client.get("/v1/status", params={"model": MODEL}).json()["models"]) == [MODEL]
    assert client.get("/v1/status", params={"model": "nobody"}).status_code == 404


def test_captions_are_passed_on_to_serving(world: World) -> None:
    client = world.client()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse({"path": scope["path"]})(scope, receive, send)

    client.app.state.serving = httpx.AsyncClient(transport=httpx.ASGITransport(answer))
    assert client.post("/v1/captions", content=b"pixels").json() == {"path": "/v1/captions"}
