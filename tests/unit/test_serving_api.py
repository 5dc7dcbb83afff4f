"""The prediction API over HTTP, in process: every way in, every way to be refused, and what is kept."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import serving_parts
from serving_parts import Client, Home, b64, png

from redpencil import asgi
from redpencil.types import Variant
from serving import protocol, trace
from serving.engine import Engine

Work = Callable[[Client, Engine], Awaitable[None]]


def serving(home: Home, work: Work) -> None:
    """Run the app of this home, and the work against its OCR model."""
    serving_parts.serving(home, lambda client, models: work(client, models.ocr))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.serve("1")
    return home


def test_every_way_of_sending_an_image_gives_the_same_answer(home: Home) -> None:
    data = png("hello world")
    ways: list[dict[str, Any]] = [
        {"content": data, "headers": {"Content-Type": "image/png"}},
        {"content": data, "headers": {"Content-Type": "application/octet-stream"}},
        {"content": data},
        {"files": {"file": ("line.png", data, "image/png")}},
        {"files": {"anything": ("line", data)}},
        {"json": {"images": [{"data": b64(data)}]}},
        {"json": {"images": [{"data": b64(data), "media_type": "image/png", "group": "g"}], "mode": "line"}},
    ]

    async def work(client: Client, _: Engine) -> None:
        for way in ways:
            answer = await client.post("/v1/ocr", **way)
            assert answer.status_code == 200, (way, answer.text)
            body = answer.json()
            protocol.OcrAnswer.model_validate_json(answer.content)
            assert (body["text"], body["model"], body["model_version"]) == ("hello world", "ocr", "1")
            assert body["variant"] == "champion"
            [page] = body["pages"]
            assert page["dimensions"] == {"width": 352, "height": 108}
            [block] = page["blocks"]
            assert (block["id"], block["bbox"]) == ("p0-b0", [0, 0, 352, 108])
            assert len(block["char_confidence"]) == len("hello world")
            assert "polygon" not in block
            assert answer.headers["x-model-version"] == "1"
            assert answer.headers["x-model-variant"] == "champion"

    serving(home, work)


def test_what_was_answered_is_on_disk_and_can_be_asked_for(home: Home) -> None:
    data = png("hello", "there")

    async def work(client: Client, _: Engine) -> None:
        sent = {
            "files": {"file": ("page.png", data, "image/png")},
            "data": {"group": "doc 7", "client_key": "me"},
        }
        answer = await client.post("/v1/ocr", **sent, headers={"X-Request-ID": "r-1"})
        body = answer.json()
        stored = home.store.predictions.get(body["prediction_id"])
        assert (stored.request_id, stored.client_key, stored.revision) == ("r-1", "me", 1)
        assert stored.variant is Variant.CHAMPION
        assert [b.text for b in stored.blocks] == ["hello", "there"]
        image = home.store.images.get(hashlib.sha256(data).hexdigest())
        assert image is not None
        assert (image.group, image.media_type) == ("doc 7", "image/png")
        assert home.blobs.get(image.sha256) == data
        again = await client.get(f"/v1/predictions/{body['prediction_id']}")
        protocol.KeptAnswer.model_validate_json(again.content)
        assert {k: again.json()[k] for k in body} == body
        missing = await client.get("/v1/predictions/pred_none")
        assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found")

    serving(home, work)


def test_without_a_group_each_image_is_its_own(home: Home) -> None:
    data = png("hello")

    async def work(client: Client, _: Engine) -> None:
        await client.post("/v1/ocr", content=data)
        sha256 = hashlib.sha256(data).hexdigest()
        image = home.store.images.get(sha256)
        assert image is not None
        assert image.group == sha256

    serving(home, work)


def test_one_name_is_one_group_however_it_is_typed(home: Home) -> None:
    async def work(client: Client, engine: Engine) -> None:
        for typed, text in (("M\u00fcller", "one"), ("Mu\u0308ller ", "two")):
            sent = await client.post("/v1/ocr", params={"group": typed}, content=png(text))
            image = home.store.images.get(sent.json()["image"])
            assert image.group == "M\u00fcller"
        named = {"data": b64(png("x")), "group": "a\u0000b"}
        for status, sent in (
            (400, {"params": {"group": "a\u0000b"}, "content": png("x")}),
            (422, {"json": {"images": [named]}}),
        ):
            broken = await client.post("/v1/ocr", **sent)
            assert (broken.status_code, "U+0000" in broken.json()["error"]["message"]) == (status, True)

    serving(home, work)


def test_one_bad_image_of_several_fails_alone(home: Home) -> None:
    good, cut = png("good"), png("cut short")[:60]

    async def work(client: Client, _: Engine) -> None:
        items = [{"data": b64(good)}, {"data": b64(cut)}, {"data": "no base64!"}, {"data": b64(png("fine"))}]
        answer = await client.post("/v1/ocr", json={"images": items}, headers={"X-Request-ID": "r-2"})
        assert answer.status_code == 207
        protocol.ManyAnswer.model_validate_json(answer.content)
        first, second, third, fourth = answer.json()["results"]
        assert (first["text"], fourth["text"]) == ("good", "fine")
        assert second["error"]["type"] == third["error"]["type"] == "bad_image"
        assert second["error"]["request_id"] == "r-2"
        assert home.store.predictions.get(fourth["prediction_id"])
        files = [("file", ("a.png", good)), ("file", ("b.png", good))]
        fine = await client.post("/v1/ocr", files=files)
        assert fine.status_code == 200
        assert [r["text"] for r in fine.json()["results"]] == ["good", "good"]

    serving(home, work)


@pytest.mark.parametrize(
    ("request_", "status", "kind"),
    [
        ({"content": b""}, 400, "malformed"),
        ({"content": b"not an image at all"}, 422, "bad_image"),
        ({"content": png("cut")[:40]}, 422, "bad_image"),
        ({"content": b"{}", "headers": {"Content-Type": "text/html"}}, 415, "unsupported_media"),
        ({"data": {"a": "b"}}, 415, "unsupported_media"),
        ({"content": b"<svg/>", "headers": {"Content-Type": "image/svg+xml"}}, 415, "unsupported_media"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "malformed"),
        ({"json": {"images": []}}, 422, "bad_input"),
        ({"json": {"images": [{"data": "aa", "colour": 1}]}}, 422, "bad_input"),
        ({"json": {"images": [{"data": "!!"}]}}, 422, "bad_image"),
        ({"content": png("a"), "params": {"mode": "word"}}, 422, "bad_input"),
        ({"content": png("a"), "params": {"colour": "red"}}, 422, "bad_input"),
        ({"content": png("a"), "params": {"model_version": "77"}}, 404, "not_found"),
        ({"files": {}, "data": {}, "headers": {"Content-Type": "multipart/form-data"}}, 400, "malformed"),
        (
            {"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            400,
            "malformed",
        ),
        ({"files": {"file": ("a.png", png("a"), "image/png\x00")}}, 400, "malformed"),
        ({"content": b"", "headers": {"Content-Type": "image/png"}}, 422, "bad_image"),
        ({"content": b"x" * 200_001}, 413, "too_large"),
        ({"json": {"images": [{"data": ""}] * 5}}, 413, "too_large"),
        ({"content": png("x" * 300, "y")}, 413, "too_large"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_shape(
    tmp_path: Path, request_: dict[str, Any], status: int, kind: str
) -> None:
    home = Home(tmp_path, max_upload_bytes=200_000, queue_limit=4, max_pixels=1_000_000)
    home.serve("1")

    async def work(client: Client, engine: Engine) -> None:
        answer = await client.post("/v1/ocr", **request_)
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (status, kind), answer.text
        assert error["message"]
        assert error["request_id"] == answer.headers["x-request-id"]
        assert engine.admission.waiting == engine.admission.bytes_held == 0
        assert home.store.predictions.list() == []

    serving(home, work)


def test_keys_are_asked_for_where_they_are_set(tmp_path: Path) -> None:
    home = Home(tmp_path, api_keys="secret")
    home.serve("1")

    async def work(client: Client, _: Engine) -> None:
        assert (await client.post("/v1/ocr", content=png("a"))).status_code == 401
        key = {"Authorization": "Bearer secret"}
        assert (await client.post("/v1/ocr", content=png("a"), headers=key)).status_code == 200
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/docs")).status_code == 200
        described = (await client.get("/openapi.json")).json()
        assert described["paths"]["/v1/ocr"]["post"]["security"] == [{"HTTPBearer": []}]

    serving(home, work)


def test_the_api_describes_itself(home: Home) -> None:
    async def work(client: Client, _: Engine) -> None:
        document = (await client.get("/openapi.json")).json()
        ocr = document["paths"]["/v1/ocr"]["post"]
        kinds = set(ocr["requestBody"]["content"])
        assert {"multipart/form-data", "image/*", "application/pdf", "application/json"} <= kinds
        assert {"200", "207", "413", "415", "422", "429", "503"} <= set(ocr["responses"])
        assert "$defs" not in json.dumps(document)
        assert (await client.get("/docs")).status_code == 200

    serving(home, work)


def test_a_request_is_a_span_of_the_callers_trace() -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app = trace.Traced(asgi.Answer(418, {}, {}), provider.get_tracer("test"))

    async def run() -> None:
        async with Client(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:
            await client.get("/v1/x", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})

    asyncio.run(run())
    [span] = spans.get_finished_spans()
    assert (span.name, span.attributes["http.response.status_code"]) == ("GET /v1/x", 418)
    assert f"{span.context.trace_id:x}" == "a" * 32
    assert trace.tracer("") is None


def test_another_origins_page_sends_no_image(home: Home) -> None:
    async def work(client: Client, _: Engine) -> None:
        for origin, status in (("http://evil.example", 401), ("http://[", 400), ("http://127.0.0.1", 200)):
            sent = {"files": {"file": ("line.png", png("hello"))}, "headers": {"Origin": origin}}
            assert (await client.post("/v1/ocr", **sent)).status_code == status
        assert len(home.store.predictions.list(limit=10)) == 1

    serving(home, work)


def test_without_keys_it_answers_by_its_own_names_alone(home: Home) -> None:
    async def work(client: Client, _: Engine) -> None:
        rebound = {"host": "evil.example:8000"}
        refused = await client.get("/v1/predictions/pred_1", headers=rebound)
        assert refused.status_code == 401
        assert "not known here as 'evil.example'" in refused.json()["error"]["message"]
        assert (await client.get("/health", headers=rebound)).status_code == 200

    serving(home, work)


def test_a_body_of_too_many_images_is_refused_before_it_is_looked_at(home: Home) -> None:
    async def work(client: Client, _: Engine) -> None:
        many = await client.post("/v1/ocr", json={"images": [{"data": ""}] * 1001})
        assert many.status_code == 422
        assert "at most 1000" in many.json()["error"]["message"]
        odd = await client.post("/v1/ocr", json={"images": [{"data": "", "media_type": "image/png\x00"}]})
        assert odd.status_code == 422

    serving(home, work)
