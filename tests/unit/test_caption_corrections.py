"""Captions corrected, accepted, imported with all references, exported and taken in again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import store_parts
from service_house import CAPTION, Client, World, caption, error
from store_parts import statements
from store_stories.told import at_once

from redpencil.snapshot import take
from redpencil.types import Correction, Task
from services.references import NOBODY, named


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


def bring(client: Client, *lines: dict[str, Any]) -> Any:
    """Import captions, a line each."""
    body = "\n".join(json.dumps({"task": "caption"} | line) for line in lines)
    return client.post("/v1/corrections/import?atomic=true", content=body).json()


def held(world: World) -> dict[str, str]:
    """The captions that hold, by author."""
    return {c.author: c.text for c in world.store.corrections.live(Task.CAPTION)}


def test_references_of_one_image_that_come_by_several_imports_are_all_kept(
    world: World, client: Client
) -> None:
    image, said = world.image("hello").sha256, ["a dog", "a brown dog", "one dog outside", "a dog "]
    for text in said:
        assert bring(client, {"image": image, "text": text})["accepted"] == 1
    assert held(world) == {f"reference {n}": text for n, text in enumerate(said[:3], 1)}
    bring(client, *({"image": image, "text": text} for text in ("two dogs", *said[::-1])))
    assert sorted(held(world).values()) == sorted([*said[:3], "two dogs"]), "in any order, and once each"


def test_imports_of_one_image_at_the_same_moment_keep_all_they_bring(world: World, client: Client) -> None:
    image = world.image("hello").sha256
    at_once(lambda n: bring(client, {"image": image, "text": f"{n} dogs"}), 4)
    assert held(world).keys() == {f"reference {n}" for n in range(1, 5)}


def test_the_names_of_many_captions_are_found_at_once(world: World, client: Client) -> None:
    images, sent = [world.image(name).sha256 for name in ("one", "two")], []
    for many in (1, 2, 6):
        lines = ({"image": image, "text": f"{n} dogs"} for n in range(many) for image in images)
        with statements(world.store) as asked:
            bring(client, *lines)
        sent.append(len(asked))
    assert sent[1] == sent[2]


def test_a_reference_takes_no_name_that_another_line_or_import_gives_to_somebody(
    world: World, client: Client
) -> None:
    image, other = world.image("hello").sha256, world.image("other").sha256
    gone = {"who": "ada", "why": "no dog"}
    bring(client, {"image": image, "text": "a cat", "author": "reference 7", "revocation": gone})
    bring(
        client,
        {"image": image, "text": "a dog"},
        {"image": other, "text": "a pen"},
        {"image": image, "text": "a lawn", "author": "reference 1"},
        {"image": image, "text": "a dog", "author": "bo"},
        {"image": image, "text": "a lawn"},
    )
    assert {c.author: c.text for c in world.store.corrections.live(Task.CAPTION) if c.image == image} == {
        "reference 1": "a lawn",
        "reference 2": "a dog",
        "bo": "a dog",
    }
    assert [c.author for c, _ in world.store.corrections.list(image=other)] == ["reference 1"]


def test_a_reference_that_was_replaced_comes_back_beside_the_one_in_its_place(
    world: World, client: Client
) -> None:
    image = world.image("hello").sha256
    for text in ("a dog", "a lawn"):
        bring(client, {"image": image, "text": text, "author": "reference 1"})
    bring(client, {"image": image, "text": "a dog"})
    assert held(world) == {"reference 1": "a lawn", "reference 2": "a dog"}


def test_references_with_ids_come_in_once(world: World, client: Client) -> None:
    image = world.image("hello").sha256
    ids = [f"corr_{n:012x}_{n:016x}" for n in range(3)]
    lines = [{"image": image, "text": f"{id[-1]} dogs", "id": id} for id in ids]
    assert bring(client, *lines, lines[0])["duplicates"] == 1
    bring(client, {"image": image, "text": "a lawn", "author": "reference 1"})
    assert (again := bring(client, *lines))["duplicates"] == 3, again
    assert "never edited" in str(bring(client, lines[0] | {"text": "9 dogs"}))


def test_pages_of_one_file_have_references_of_their_own(world: World) -> None:
    file = store_parts.image("scan")
    world.store.images.add_many([file])

    def page(n: int, text: str, author: str = NOBODY) -> Correction:
        return store_parts.correction(file, text, task=Task.CAPTION, page=n, author=author)

    world.store.corrections.add_many([page(0, "a dog", "reference 1"), page(1, "a lawn", "reference 1")])
    said = named(world.store, [page(1, "a dog"), page(0, "a dog"), page(1, "a lawn")], [])
    assert [c.author for c in said] == ["reference 2", "reference 1", "reference 1"]


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
