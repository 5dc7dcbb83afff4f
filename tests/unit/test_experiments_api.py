"""Experiments over HTTP: begun, changed, ended, and reported on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_house import MODEL, Client, World, correct, error
from store_parts import statements

from redpencil.types import Outcome, Variant
from services import models


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(models, "SETTLE_S", 0.01)  # the reconciler stands still here
    world = World(tmp_path, serving_port=1, mlflow_port=2)  # nothing listens there
    yield world
    world.house.judge.stop()
    world.store.close()


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def begin(client: Client, **fields: Any) -> httpx.Response:
    return client.post("/v1/experiments", json={"challenger": "2"} | fields)


def test_an_experiment_shares_the_traffic_and_ends(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2")
    made = begin(client, weight=0.5, mirror=0.1)
    assert made.status_code == 201
    id = made.json()["id"]
    state = world.store.serving.get(MODEL)
    assert (state.challenger, state.weight, state.mirror, state.experiment) == ("2", 0.5, 0.1, id)
    assert begin(client).status_code == 409
    changed = client.request("PATCH", f"/v1/experiments/{id}", json={"weight": 0.9})
    assert (changed.json()["weight"], changed.json()["mirror"]) == (0.9, 0.1)
    ended = client.request("DELETE", f"/v1/experiments/{id}", json={"why": "enough"})
    assert ended.json()["why"] == "enough"
    assert world.store.serving.get(MODEL).challenger is None
    assert client.request("PATCH", f"/v1/experiments/{id}", json={"weight": 0}).status_code == 409
    assert [e["id"] for e in client.get("/v1/experiments").json()["items"]] == [id]


def test_what_did_not_pass_may_read_along_but_not_answer(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2", Outcome.INCONCLUSIVE, "too few lines")
    answer = begin(client, weight=0.1)
    assert answer.status_code == 409
    assert "mirror" in error(answer)
    id = begin(client, mirror=1.0).json()["id"]
    assert client.request("PATCH", f"/v1/experiments/{id}", json={"weight": 0.1}).status_code == 409


def test_what_a_person_let_in_and_another_rolled_back_may_not_answer(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2", Outcome.FAILED, "worse")
    client.post(f"/v1/models/{MODEL}/override", json={"version": "2", "why": "for the fair"})
    back = client.post(f"/v1/models/{MODEL}/rollback", json={"to": "1"})
    assert back.json()["champion"] == "1"
    assert client.post(f"/v1/models/{MODEL}/rollback", json={"to": "2"}).status_code == 409
    assert client.post("/v1/experiments", json={"challenger": "2", "weight": 0.5}).status_code == 409


@pytest.mark.parametrize("shares", [{}, {"weight": 0, "mirror": 0.0}])
def test_an_experiment_that_compares_nothing_is_refused_with_what_to_give(
    world: World, client: Client, shares: Any
) -> None:
    world.serve("1")
    world.version("2")
    answer = begin(client, **shares)
    assert answer.status_code == 422
    assert "give weight" in error(answer)
    assert world.store.experiments.current(MODEL) is None


def test_a_promotion_ends_the_experiment(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2")
    id = begin(client, weight=0.5).json()["id"]
    client.post(f"/v1/models/{MODEL}/promote", json={"version": "2"})
    state = world.store.serving.get(MODEL)
    assert (state.champion, state.challenger, state.weight, state.experiment) == ("2", None, 0.0, None)
    assert world.store.experiments.get(id).ended_at is not None


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"challenger": "1"}, 422),
        ({"challenger": "9"}, 404),
        ({"weight": 1.5}, 422),
        ({"mirror": -0.1}, 422),
    ],
)
def test_an_experiment_that_cannot_be_is_refused(
    world: World, client: Client, fields: Any, status: int
) -> None:
    world.serve("1")
    world.version("2")
    assert begin(client, **fields).status_code == status
    assert world.store.experiments.current(MODEL) is None


def test_the_report_counts_labels_of_both_arms(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2")
    id = begin(client, weight=0.5).json()["id"]
    revision = world.store.serving.get(MODEL).revision
    for n in range(6):
        text = f"line {chr(97 + n)}"
        arm = {"variant": Variant.CHALLENGER, "version": "2"} if n % 2 else {}
        made = world.prediction(text, revision=revision, **arm)
        correct(client, made, text if n % 2 else "line z")
    chosen = world.prediction("named", variant=Variant.EXPLICIT, version="2", revision=revision)
    correct(client, chosen, "other")
    report = client.get(f"/v1/experiments/{id}").json()["report"]
    assert (report["arms"]["A"]["labels"], report["arms"]["B"]["labels"]) == (3, 3)
    assert report["arms"]["B"]["cer"] == 0
    assert report["arms"]["A"]["cer"] > 0
    assert report["arms"]["A"]["requests"] == 3
    assert (report["sample_ratio"]["a"], report["sample_ratio"]["b"]) == (3, 3)
    assert report["verdict"] == "not yet"


def test_a_report_of_many_answers_asks_the_database_no_more_than_one_of_few(
    world: World, client: Client
) -> None:
    world.serve("1")
    world.version("2")
    id = begin(client, mirror=1.0).json()["id"]
    sent = []
    for more in (1, 4):
        for _ in range(more):
            shown = world.prediction("hallo", "welt")
            shadow = {"version": "2", "variant": Variant.CHALLENGER, "mirror_of": shown.id}
            world.prediction("hello", "welt", image=world.store.images.get(shown.image), **shadow)
            correct(client, shown, "hello", region="p0-b0")
        with statements(world.store) as asked:
            report = client.get(f"/v1/experiments/{id}").json()["report"]
        assert report["arms"]["A"]["labels"] == report["chosen_pairs"]
        sent.append(len(asked))
    assert report["chosen_pairs"] == 5
    assert sent[0] == sent[1]


def test_mirrored_images_are_scored_by_both(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2")
    id = begin(client, mirror=1.0).json()["id"]
    shown = world.prediction("hallo")
    image = world.store.images.get(shown.image)
    world.prediction("hello", version="2", variant=Variant.CHALLENGER, image=image, mirror_of=shown.id)
    correct(client, shown, "hello")
    assert client.get(f"/v1/experiments/{id}").json()["report"]["chosen_pairs"] == 1
