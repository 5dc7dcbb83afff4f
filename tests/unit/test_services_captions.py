"""The second model beside the first: captions through the same services, and neither in the other's way."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_house import MODEL, Client, World, error
from starlette.responses import JSONResponse
from test_scheduler import Watched
from typer.testing import CliRunner

from redpencil.settings import Settings
from redpencil.snapshot import take
from redpencil.types import Outcome, Prediction, RunState, Task, Variant
from services import cli, models, promote, runs
from services.schedule import Schedule, queue

CAPTION = "caption"


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


def caption(world: World, text: str, **fields: Any) -> Prediction:
    """An answer to POST /v1/captions: one block, the whole image."""
    return world.prediction(text, task=Task.CAPTION, model=CAPTION, **fields)


def correct(client: Client, **body: Any) -> httpx.Response:
    return client.post("/v1/corrections", json=body)


# --- corrections --------------------------------------------------------------------------------


def test_a_caption_is_corrected_like_a_line(world: World, client: Client) -> None:
    made = caption(world, "a dog")
    kept = correct(client, prediction_id=made.id, text="two dogs on a lawn").json()
    assert (kept["task"], kept["region"], kept["predicted"], kept["model"]) == (
        "caption",
        "p0-b0",
        "a dog",
        CAPTION,
    )
    accepted = correct(client, prediction_id=made.id, kind="accept").json()
    assert accepted["text"] == "a dog"
    assert client.get("/v1/corrections", params={"task": "ocr"}).json()["items"] == []


def test_an_image_is_captioned_without_a_prediction(world: World, client: Client) -> None:
    image = world.image("hello")
    kept = correct(client, image=image.sha256, task="caption", text="a greeting").json()
    height, width = world.house.pictures.page(image.sha256, 0).shape[:2]
    assert (kept["task"], kept["bbox"]) == ("caption", [0, 0, width, height])
    line = correct(client, image=image.sha256, text="hello").json()
    assert line["task"] == "ocr"
    assert [c.text for c in world.store.corrections.live(Task.CAPTION)] == ["a greeting"]
    assert [c.text for c in world.store.corrections.live(Task.OCR)] == ["hello"]


def test_a_caption_by_prediction_and_one_by_image_are_of_the_same_place(world: World, client: Client) -> None:
    made = caption(world, "a dog")
    correct(client, prediction_id=made.id, text="two dogs")
    correct(client, image=made.image, task="caption", text="three dogs")
    assert [c.text for c in world.store.corrections.live(Task.CAPTION)] == ["three dogs"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"text": "  "}, "caption is empty"),
        ({"text": "a dog", "task": "ocr"}, "about the task caption, not ocr"),
        ({"text": "a dog", "bbox": [0, 0, 9, 9]}, "about the whole image"),
        ({"text": "x" * 2001}, "2,000"),
        ({"text": "a dog", "task": "poem"}, "task"),
    ],
)
def test_what_is_no_caption_is_refused(world: World, client: Client, body: Any, words: str) -> None:
    made = caption(world, "a cat")
    answer = correct(client, prediction_id=made.id, **body)
    assert answer.status_code == 422
    assert words in error(answer)
    place = body | {"image": made.image, "task": body.get("task", "caption")}
    if place["task"] != "ocr":
        assert words in error(correct(client, **place))
    assert world.store.corrections.list() == []


def test_an_empty_caption_cannot_be_accepted(world: World, client: Client) -> None:
    assert "empty" in error(correct(client, prediction_id=caption(world, "").id, kind="accept"))


def test_an_import_keeps_every_reference_of_an_image(world: World, client: Client) -> None:
    image = world.image("hello")
    said = ["a dog", "a brown dog", "one dog outside"]
    lines = [{"image": image.sha256, "task": "caption", "text": text} for text in said]
    lines.append({"image": image.sha256, "text": "hello"})
    body = "\n".join(map(json.dumps, lines))
    report = client.post("/v1/corrections/import?atomic=true", content=body).json()
    assert report["accepted"] == 4
    by = {c.author: c.text for c, _ in world.store.corrections.list(task=Task.CAPTION)}
    assert by == {f"reference {n}": text for n, text in enumerate(said, 1)}
    assert world.store.corrections.list(task=Task.OCR)[0][0].author == "ada"
    client.post("/v1/corrections/import", content=body)  # the same again replaces, it does not add
    assert sorted(m.text for m in take(world.store, Task.CAPTION).members) == sorted(said)


def test_exported_captions_come_back_in_as_they_were(world: World, client: Client) -> None:
    made, image = caption(world, "a dog"), world.image("hello")
    correct(client, prediction_id=made.id, text="two dogs")
    for author in ("bo", "eve"):
        correct(client, image=image.sha256, task="caption", text=f"seen by {author}", author=author)
    correct(client, image=image.sha256, text="hello")
    exported = client.get("/v1/corrections/export", params={"task": "caption"}).text
    assert [json.loads(line)["task"] for line in exported.splitlines()] == ["caption"] * 3
    again = client.post("/v1/corrections/import", content=exported).json()
    assert (again["accepted"], again["duplicates"], again["refused"]) == (0, 3, [])

    other = World(world.settings.home / "other")
    for shown in (world.store.images.get(made.image), image):
        assert shown is not None
        other.house.blobs.put(world.house.blobs.get(shown.sha256))
        other.store.images.add_many([shown])
    other.store.predictions.add_many([(world.store.images.get(made.image), made)])  # type: ignore[list-item]
    assert other.client().post("/v1/corrections/import", content=exported).json()["accepted"] == 3
    back = other.client().get("/v1/corrections/export").text
    assert sorted(back.splitlines()) == sorted(exported.splitlines())


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


def test_a_run_of_the_other_model_is_waited_for(world: World) -> None:
    watched = Watched(world, models=world.settings.models)
    first, second = queue(world.store, CAPTION, "catr", "api").id, watched.queue()
    third = queue(world.store, CAPTION, "catr", "api").id
    watched.tick(3)
    assert watched.started == [first]
    ahead = [world.client().get(f"/v1/training-runs/{id}").json()["queue"] for id in (first, second, third)]
    assert ahead == [None, 1, 2]
    for ended, following in ((first, second), (second, third)):
        world.store.runs.update(ended, state=RunState.SUCCEEDED, pid=None)
        watched.until(lambda following=following: watched.started[-1] == following)  # type: ignore[misc]
    watched.scheduler.stop()


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


# --- the command line ---------------------------------------------------------------------------


class Told:
    """What the command line asked, and what it is answered."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.calls = answer, []  # type: ignore[var-annotated]

    def __call__(self, _client: Any, method: str, url: str, **arguments: Any) -> Any:
        self.calls.append((method, httpx.URL(url).path, arguments))
        return self.answer


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def invoke(answer: Any, *words: str) -> tuple[Told, str]:
        told = Told(answer)
        monkeypatch.setattr("services.client.Client._call", lambda c, m, u, **a: told(c, m, u, **a))
        done = CliRunner().invoke(cli.app, list(words))
        assert done.exit_code == 0, done.output
        return told, done.output

    return invoke


def test_an_image_is_captioned_from_the_command_line(run: Any, tmp_path: Path) -> None:
    (tmp_path / "dog.png").write_bytes(b"pixels")
    block = {"id": "p0-b0", "confidence": 0.9, "text": "two dogs"}
    answer = {"prediction_id": "pred_1", "model_version": "3", "variant": "explicit"}
    answer |= {"pages": [{"blocks": [block]}]}
    words = ("predict", "--task", "caption", "--version", "3", str(tmp_path / "dog.png"))
    told, output = run(answer, *words)
    (call,) = told.calls
    assert (call[1], call[2]["params"]) == ("/v1/captions", {"model_version": "3"})
    assert "two dogs" in output


def test_hyper_parameters_are_set_by_name(run: Any) -> None:
    words = ("retrain", "--model", "caption", "--recipe", "catr", "--set", "lr=1e-4", "--no-wait")
    queued = {"state": "queued", "id": "run_1", "recipe": "catr", "phase": None, "version": None, "links": {}}
    told, said = run(queued, *words)
    assert said == "run_1 (catr): queued\n"
    body = told.calls[0][2]["json"]
    assert body == {"model": "caption", "recipe": "catr", "params": {"lr": "1e-4"}}


def test_a_bare_number_is_a_version_of_the_model(run: Any) -> None:
    assert run({}, "lineage", "2", "--model", "caption")[0].calls[0][1] == "/v1/lineage/caption/2"
    assert run({}, "lineage", "caption/2")[0].calls[0][1] == "/v1/lineage/caption/2"
    assert run({}, "lineage", "pred_1")[0].calls[0][1] == "/v1/lineage/pred_1"


def test_status_tells_of_an_unused_model_in_one_line(world: World, run: Any) -> None:
    world.serve("1")
    _, output = run(world.client().get("/v1/status").json(), "status")
    about = [line for line in output.splitlines() if "caption" in line]
    assert len(about) == 1
    assert "no version yet" in about[0]
    assert "ocr: version 1 is served" in output
