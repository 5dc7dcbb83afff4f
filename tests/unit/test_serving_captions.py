"""Captions over HTTP: every way in that lines have, one block for a whole page."""

import io
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
from PIL import Image
from serving_parts import CAPTION, Client, Home, b64, png, with_captions

from redpencil.types import Task
from serving import protocol
from serving.models import Models


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.serve("1")
    home.serve("1", CAPTION)
    return home


def tiff(*lines: str) -> bytes:
    """A document with one line per page."""
    pages = [Image.fromarray(tiny_bundle.paint(line)) for line in lines]
    kept = io.BytesIO()
    pages[0].save(kept, "TIFF", save_all=True, append_images=pages[1:])
    return kept.getvalue()


def test_every_way_of_sending_an_image_gives_the_same_caption(home: Home) -> None:
    data = png("two boats at sea")
    ways: list[dict[str, Any]] = [
        {"content": data, "headers": {"Content-Type": "image/png"}},
        {"content": data},
        {"files": {"file": ("photo.png", data, "image/png")}, "data": {"group": "g"}},
        {"json": {"images": [{"data": b64(data)}], "client_key": "me"}},
    ]

    async def work(client: Client, _: Models) -> None:
        for way in ways:
            answer = await client.post("/v1/captions", **way)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            protocol.CaptionAnswer.model_validate_json(answer.content)
            assert (body["text"], body["model"], body["model_version"]) == ("two boats at sea", CAPTION, "1")
            [block] = body["pages"][0]["blocks"]
            assert (block["id"], block["bbox"]) == ("p0-b0", [0, 0, 512, 108])
            assert body["confidence"] == block["confidence"] > 0.9
            assert answer.headers["x-model-version"] == "1"
            kept = home.store.predictions.get(body["prediction_id"])
            assert (kept.task, kept.model) == (Task.CAPTION, CAPTION)
            again = await client.get(f"/v1/predictions/{body['prediction_id']}")
            protocol.KeptAnswer.model_validate_json(again.content)
            assert {k: again.json()[k] for k in body} == body

    with_captions(home, work)


def test_no_lines_are_looked_for_and_every_page_has_one_block(home: Home) -> None:
    async def work(client: Client, _: Models) -> None:
        [page] = (await client.post("/v1/captions", content=png("a", "b", "c"))).json()["pages"]
        assert [b["bbox"] for b in page["blocks"]] == [[0, 0, 32, 324]]
        body = (await client.post("/v1/captions", content=tiff("one", "two"))).json()
        assert body["text"] == "one\ntwo"
        assert [b["id"] for p in body["pages"] for b in p["blocks"]] == ["p0-b0", "p1-b0"]

    with_captions(home, work)


def test_a_mode_makes_no_sense_and_is_refused(home: Home) -> None:
    data = png("hello")
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [b64(data)]}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/captions", {"content": data, "params": {"mode": "line"}}),
        ("/v1/captions", {"files": {"file": ("a.png", data)}, "data": {"mode": "page"}}),
        ("/v1/captions", {"json": {"images": [{"data": b64(data)}], "mode": "auto"}}),
        ("/v2/models/caption/infer", {"json": {"inputs": [tensor], "parameters": {"mode": "line"}}}),
    ]

    async def work(client: Client, _: Models) -> None:
        for path, sent in asked:
            answer = await client.post(path, **sent)
            assert (answer.status_code, answer.json()["error"]["type"]) == (422, "bad_input"), answer.text
            assert "mode" in answer.json()["error"]["message"]
        assert home.store.predictions.list() == []

    with_captions(home, work)


def test_one_bad_image_of_several_fails_alone(home: Home) -> None:
    items = [{"data": b64(png("good"))}, {"data": b64(png("cut")[:60])}]

    async def work(client: Client, _: Models) -> None:
        answer = await client.post("/v1/captions", json={"images": items})
        assert answer.status_code == 207
        protocol.ManyCaptions.model_validate_json(answer.content)
        first, second = answer.json()["results"]
        assert (first["text"], second["error"]["type"]) == ("good", "bad_image")

    with_captions(home, work)
