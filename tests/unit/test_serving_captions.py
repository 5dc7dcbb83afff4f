"""The caption model beside the OCR model in one replica: same ways in, same promises, in nobody's way."""

import asyncio
import base64
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import tiny_bundle
from PIL import Image
from serving_parts import CAPTION, MODEL, Home, metric, png, serving, until

from redpencil.bundle import Manifest
from redpencil.pixels import Pixels
from redpencil.reader import LineReader
from redpencil.types import LineText, Task, Variant
from serving import protocol, upload
from serving.follow import Serving
from serving.models import Models
from serving.reader import Reader

Client = httpx.AsyncClient


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.serve("1")
    home.serve("1", CAPTION)
    return home


def with_captions(home: Home, work: Callable[..., Any]) -> None:
    """The caption model is loaded after OCR, beside the first requests; wait for it, then work."""

    async def waited(client: Client, models: Models) -> None:
        await until(lambda: models.captions.why_not_ready() is None)
        await work(client, models)

    serving(home, waited)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{b64(data)}"


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


def test_without_a_caption_champion_all_else_works_and_it_says_how_to_get_one(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.serve("1")

    async def work(client: Client, models: Models) -> None:
        await until(lambda: home.store.replicas.list(CAPTION))
        refused = [
            await client.post("/v1/captions", content=png("hello")),
            await client.get("/v2/models/caption/ready"),
            await client.post("/v1/chat/completions", json=chat(CAPTION, png("hello"))),
        ]
        for answer in refused:
            assert (answer.status_code, answer.json()["error"]["type"]) == (503, "not_ready")
            assert "no version of caption is champion yet" in answer.json()["error"]["message"]
            assert "docs/captions.md" in answer.json()["error"]["message"]
            assert "retry-after" in answer.headers
        assert (await client.post("/v1/ocr", content=png("hello"))).status_code == 200
        health = await client.get("/health")
        assert (health.status_code, health.json()["champion"]) == (200, "1")
        told = health.json()["captions"]
        assert (told["status"], told["champion"], told["error"]) == ("not_ready", None, None)
        assert "docs/captions.md" in told["why"]
        named = await client.post("/v1/captions", content=png("hello"), params={"model_version": "2"})
        assert (named.json()["variant"], named.json()["text"]) == ("explicit", "hcllo")

    serving(home, work)


def test_a_broken_caption_champion_is_told_and_harms_nobody(home: Home) -> None:
    manifest = Manifest.load(home.settings.home / "made" / "3")
    path = home.blobs.path(manifest.graphs[manifest.precision].sha256)
    assert path is not None
    path.write_bytes(b"rotten")
    home.serve("3", CAPTION)

    async def work(client: Client, models: Models) -> None:
        await until(lambda: models.captions.follower.error and models.ocr.follower.current.readers)
        health = await client.get("/health")
        assert health.status_code == 200
        assert "version 3 cannot be loaded" in health.json()["captions"]["error"]
        assert (await client.get("/v2/health/ready")).status_code == 200
        answer = await client.post("/v1/captions", content=png("hello"))
        assert answer.status_code == 503
        assert "version 3 cannot be loaded" in answer.json()["error"]["message"]
        await until(lambda: "version 3 cannot" in str(home.store.replicas.list(CAPTION)[0]["error"]))
        assert home.store.replicas.list(MODEL)[0]["error"] is None

    serving(home, work)


def test_arms_and_mirrors_of_captions_are_their_own(home: Home) -> None:
    home.serve("1", CAPTION, challenger="2", mirror=1.0)

    async def work(client: Client, models: Models) -> None:
        body = (await client.post("/v1/captions", content=png("here", "there"))).json()
        assert (body["model_version"], body["variant"]) == ("1", "champion")
        await until(lambda: not models.captions._mirrors)
        [shadow] = [p for p in home.store.predictions.list() if p.mirror_of]
        assert (shadow.mirror_of, shadow.version, shadow.variant) == (
            body["prediction_id"],
            "2",
            Variant.CHALLENGER,
        )
        assert (shadow.task, shadow.model) == (Task.CAPTION, CAPTION)
        assert [b.id for b in shadow.blocks] == ["p0-b0"]
        home.serve("1", CAPTION, challenger="2", weight=1.0)
        await until(lambda: models.captions.state.state.weight)
        moved = await client.post("/v1/captions", content=png("here"))
        assert (moved.json()["text"], moved.headers["x-model-variant"]) == ("hcrc", "challenger")
        plain = await client.post("/v1/ocr", content=png("here"))
        assert (plain.json()["text"], plain.headers["x-model-variant"]) == ("here", "champion")

    with_captions(home, work)


class Slow:
    """A reader that takes its time, as one that writes token after token does: until it may go on."""

    def __init__(self, folder: Path) -> None:
        self._reader, self.may_go_on = LineReader(folder), threading.Event()
        self.manifest, self.precision, self.device = self._reader.manifest, self._reader.precision, "cpu"

    def read(self, line: Pixels) -> LineText:
        assert self.may_go_on.wait(60)
        return self._reader.read(line)

    def warm(self) -> None:
        self.read(tiny_bundle.paint("a"))


def test_a_flood_of_slow_captions_leaves_lines_their_places_and_readers(tmp_path: Path) -> None:
    home = Home(tmp_path, queue_limit=4, threads=1)
    home.serve("1")
    home.serve("1", CAPTION)

    async def work(client: Client, models: Models) -> None:
        slow = Slow(home.settings.home / "made" / "1")
        models.captions.follower.current = Serving(models.captions.state.state, {"1": Reader("1", slow)})
        large = png("boats") + bytes(upload.SMALL_BODY)
        flood = [asyncio.create_task(client.post("/v1/captions", content=large)) for _ in range(12)]
        await until(lambda: sum(task.done() for task in flood) == 8)
        lines = [await client.post("/v1/ocr", content=png("hello")) for _ in range(4)]
        assert [a.status_code for a in lines] == [200] * 4
        assert models.captions.admission.waiting == 4
        slow.may_go_on.set()
        answers = await asyncio.gather(*flood)
        refused = [a for a in answers if a.status_code == 429]
        assert {a.status_code for a in answers} == {200, 429}
        assert len(refused) == 8
        assert all(int(a.headers["retry-after"]) >= 1 for a in refused)
        assert refused[0].json()["error"]["type"] == "busy"

    with_captions(home, work)


def test_metrics_are_told_by_model(home: Home) -> None:
    async def work(client: Client, _: Models) -> None:
        await client.post("/v1/ocr", content=png("hello", "there"))
        await client.post("/v1/captions", content=png("hello", "there"))
        await client.post("/v1/captions", content=b"nonsense")
        text = (await client.get("/metrics")).text
        for model, lines in ((MODEL, 2), (CAPTION, 1)):
            arm = {"model": model, "version": "1", "variant": "champion"}
            assert metric(text, "redpencil_images_total", **arm) == 1
            assert metric(text, "redpencil_lines_total", **arm) == lines
            assert metric(text, "redpencil_journal_commit_seconds_count", model=model) == 1
            assert metric(text, "redpencil_waiting_images", model=model) == 0
            assert metric(text, "redpencil_serving_revision", model=model) == 1
        assert metric(text, "redpencil_errors_total", model=CAPTION, type="bad_image") == 1
        assert metric(text, "redpencil_errors_total", model=MODEL) == 0

    with_captions(home, work)


def test_the_open_inference_protocol_serves_both_models(home: Home) -> None:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2], "data": [b64(png("hello"))] * 2}

    async def work(client: Client, _: Models) -> None:
        for model in (MODEL, CAPTION):
            about = (await client.get(f"/v2/models/{model}")).json()
            assert (about["name"], about["versions"]) == (model, ["1"])
            body = (await client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]})).json()
            texts, _, ids, _ = (output["data"] for output in body["outputs"])
            assert (body["model_name"], texts) == (model, ["hello"] * 2)
            assert {home.store.predictions.get(i).model for i in ids} == {model}
        named = await client.post(f"/v2/models/{CAPTION}/versions/2/infer", json={"inputs": [tensor]})
        assert (named.json()["model_version"], named.json()["outputs"][0]["data"][0]) == ("2", "hcllo")
        missing = await client.get("/v2/models/other")
        assert missing.status_code == 404
        assert "'other' is not served here; ocr and caption are" in missing.json()["error"]["message"]

    with_captions(home, work)


def chat(model: str, *images: bytes, **more: Any) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in images]
    said = {"role": "user", "content": [{"type": "text", "text": "What does it say?"}, *parts]}
    return {"model": model, "messages": [{"role": "system", "content": "You are kind."}, said], **more}


def test_openais_clients_can_ask_both_models(home: Home) -> None:
    async def work(client: Client, _: Models) -> None:
        for model, task in ((MODEL, Task.OCR), (CAPTION, Task.CAPTION)):
            sent = chat(model, png("hello"), max_tokens=9, temperature=0, stream=False, user="u1", group="d")
            answer = await client.post("/v1/chat/completions", json=sent)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            [choice] = body["choices"]
            assert choice["message"] == {"role": "assistant", "content": "hello", "refusal": None}
            assert (choice["index"], choice["finish_reason"]) == (0, "stop")
            assert (body["object"], body["model"]) == ("chat.completion", f"{model}:1")
            assert "usage" not in body
            kept = home.store.predictions.get(body["prediction_id"])
            assert (kept.task, kept.client_key, kept.id) == (task, "u1", body["id"])
            image = home.store.images.get(kept.image)
            assert image is not None
            assert (image.group, image.media_type) == ("d", "image/png")
        named = await client.post("/v1/chat/completions", json=chat("ocr:2", png("hello")))
        assert (named.json()["model"], named.headers["x-model-variant"]) == ("ocr:2", "explicit")
        assert named.json()["choices"][0]["message"]["content"] == "hcllo"

    with_captions(home, work)


def test_of_a_conversation_the_last_images_are_read(home: Home) -> None:
    async def work(client: Client, _: Models) -> None:
        earlier = chat("ocr", png("before"))["messages"]
        answer = {"role": "assistant", "content": "before", "refusal": None, "annotations": []}
        sent = chat("ocr", png("one", "two"), png("three"))
        sent["messages"] = [*earlier, answer, *sent["messages"]]
        body = (await client.post("/v1/chat/completions", json=sent)).json()
        assert body["choices"][0]["message"]["content"] == "one\ntwo\n\nthree"
        assert [home.store.predictions.get(i).blocks[0].text for i in body["prediction_ids"]] == [
            "one",
            "three",
        ]

    with_captions(home, work)


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def pictured(url: str) -> list[dict[str, Any]]:
    return user([{"type": "image_url", "image_url": {"url": url}}])


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"messages": pictured("https://example.com/a.png")}, 422, "nothing is fetched"),
        ({"messages": pictured("http://127.0.0.1:8080/")}, 422, "nothing is fetched"),
        ({"messages": pictured("file:///etc/passwd")}, 422, "nothing is fetched"),
        ({"messages": pictured("data:image/png,abc")}, 422, "not base64"),
        ({"messages": pictured("data:image/png;base64")}, 422, "not base64"),
        ({"messages": pictured("data:image/png;base64,!!")}, 422, "not base64"),
        ({"messages": pictured(data_url(b"nonsense"))}, 422, "image"),
        ({"messages": pictured(data_url(png("a"), "text/html"))}, 415, "text/html"),
        ({"messages": user("What is this?")}, 422, "has no image"),
        ({"messages": user([{"type": "text", "text": "hi"}])}, 422, "has no image"),
        ({"messages": [{"role": "system", "content": "x"}]}, 422, "has no image"),
        ({"messages": user([{"type": "input_audio", "input_audio": {}}])}, 422, "part 0"),
        ({"messages": user([{"type": "image_url", "image_url": "x"}])}, 422, "part 0"),
        ({"messages": []}, 422, "messages"),
        ({"model": "gpt-5"}, 404, "ocr and caption"),
        ({"model": "ocr:77"}, 404, "77"),
        ({"model": "ocr:"}, 422, "model_version"),
        ({"stream": True}, 422, "stream"),
        ({"n": 2}, 422, "n"),
        ({"tools": []}, 422, "tools"),
    ],
)
def test_what_a_chat_cannot_have_is_refused_in_our_shape(
    home: Home, change: dict[str, Any], status: int, words: str
) -> None:
    async def work(client: Client, models: Models) -> None:
        answer = await client.post("/v1/chat/completions", json=chat("ocr", png("hello")) | change)
        error = answer.json()["error"]
        assert answer.status_code == status, answer.text
        assert words in error["message"]
        assert error["request_id"] == answer.headers["x-request-id"]
        assert models.ocr.admission.bytes_held == models.ocr.admission.waiting == 0

    serving(home, work)


def test_the_list_of_models_has_openais_shape(home: Home) -> None:
    home.serve("2", previous="1")

    async def work(client: Client, models: Models) -> None:
        listed = (await client.get("/v1/models")).json()
        assert listed["object"] == "list"
        assert [m["id"] for m in listed["data"]] == ["ocr", "ocr:2", "ocr:1", "caption", "caption:1"]
        registered = home.store.versions.get(MODEL, "2").created_at
        assert listed["data"][0] == {
            "id": "ocr",
            "object": "model",
            "created": int(registered),
            "owned_by": "redpencil",
        }

    with_captions(home, work)


def test_the_api_describes_captions_and_chat(home: Home) -> None:
    async def work(client: Client, _: Models) -> None:
        paths = (await client.get("/openapi.json")).json()["paths"]
        caption, ocr = paths["/v1/captions"]["post"], paths["/v1/ocr"]["post"]
        assert set(caption["requestBody"]["content"]) == set(ocr["requestBody"]["content"])
        asked = {p["name"] for p in caption["parameters"]}
        assert asked == {p["name"] for p in ocr["parameters"]} - {"mode"}
        chat = paths["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert "ignored" in chat["properties"]["max_tokens"]["description"]
        assert "/v1/models" in paths

    with_captions(home, work)
