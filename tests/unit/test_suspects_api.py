"""Doubted corrections over HTTP: seen by a person, confirmed, taken back or corrected anew."""

import time
from typing import Any

import pytest
import store_parts
from service_house import Client, World, error

from redpencil.types import Doubt


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


@pytest.fixture
def doubted(world: World, client: Client) -> list[dict[str, Any]]:
    """Three corrections: the first two left out by a run, the third only looked at."""
    body = [{"prediction_id": world.prediction(word).id, "text": "x"} for word in ("one", "two", "six")]
    kept: list[dict[str, Any]] = client.post("/v1/corrections", json=body).json()["items"]
    run = store_parts.run()
    world.store.runs.add(run)
    world.store.doubts.add_many(
        [Doubt(run.id, c["id"], time.time(), 0.9 - 0.2 * n, n < 2, f"reason {n}") for n, c in enumerate(kept)]
    )
    return kept


def suspects(client: Client, **query: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/review/suspects", params=query).json()
    return found


def test_what_was_left_out_is_listed_with_its_reason_and_its_picture(
    client: Client, doubted: list[dict[str, Any]]
) -> None:
    found = suspects(client)
    assert [i["id"] for i in found["items"]] == [c["id"] for c in doubted[:2]]
    first = found["items"][0]
    assert (first["why"], first["score"], first["left_out"], first["state"]) == (
        "reason 0",
        0.9,
        True,
        "submitted",
    )
    assert client.get(first["image_url"]).status_code == 200
    assert found["left_out"] == 2
    assert found["authors"] == {"ada": {"right": 0, "wrong": 0}}
    assert [i["left_out"] for i in suspects(client, every=True)["items"]] == [True, True, False]
    assert len(suspects(client, limit=1)["items"]) == 1
    assert suspects(client, model="caption")["items"] == []


def test_a_person_decides(client: Client, doubted: list[dict[str, Any]]) -> None:
    first, second = (c["id"] for c in doubted[:2])
    answer = client.post(f"/v1/corrections/{first}/confirm", json={"why": "it is so"}).json()
    assert (answer["confirmation"]["who"], answer["confirmation"]["why"]) == ("ada", "it is so")
    client.post(f"/v1/corrections/{second}/revoke", json={"why": "wrong line"})
    found = suspects(client)
    assert (found["items"], found["left_out"]) == ([], 0)
    shown = client.get(f"/v1/corrections/{first}").json()
    assert shown["doubts"][0]["why"] == "reason 0"
    assert shown["confirmation"]["who"] == "ada"
    assert suspects(client, every=True)["authors"] == {"ada": {"right": 1, "wrong": 1}}


def test_a_new_correction_of_the_place_settles_it(client: Client, doubted: list[dict[str, Any]]) -> None:
    old = doubted[0]
    body = {"prediction_id": old["prediction_id"], "region": old["region"], "text": "right"}
    client.post("/v1/corrections", json=body)
    assert [i["id"] for i in suspects(client)["items"]] == [doubted[1]["id"]]


def test_it_is_settled_by_what_is_said_of_the_place_in_whatever_way(
    world: World, client: Client, doubted: list[dict[str, Any]]
) -> None:
    first, second = (world.store.corrections.get(c["id"]) for c in doubted[:2])
    image = world.store.images.get(second.image)
    assert image is not None
    client.post("/v1/corrections", json={"image": second.image, "text": "a line", "task": "caption"})
    assert [i["id"] for i in suspects(client)["items"]] == [first.id, second.id], "a caption is no line"
    client.post("/v1/corrections", json={"image": first.image, "text": "right"})
    found = suspects(client)
    assert ([i["id"] for i in found["items"]], found["left_out"]) == ([second.id], 1)


def test_what_is_not_known_cannot_be_confirmed(client: Client) -> None:
    answer = client.post("/v1/corrections/corr_x/confirm", json={})
    assert answer.status_code == 404
    assert "corr_x" in error(answer)
