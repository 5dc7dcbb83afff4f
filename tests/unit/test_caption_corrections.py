"""Captions corrected, accepted, imported with all references, exported and taken in again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_house import CAPTION, Client, World, caption, error

from redpencil.snapshot import take
from redpencil.types import Task


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.house.judge.stop()
    world.store.close()


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def correct(client: Client, **body: Any) -> httpx.Response:
    return client.post("/v1/corrections", json=body)


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
