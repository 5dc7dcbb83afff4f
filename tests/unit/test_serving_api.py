"""The prediction API over HTTP, in process: every way in, every way to fail, and what stays true."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import serving_parts
from serving_parts import Home, metric, png, until

from redpencil import asgi
from redpencil.blobs import FolderBlobs
from redpencil.types import Variant
from serving import protocol, trace
from serving.admission import Admission
from serving.engine import Engine

Client = httpx.AsyncClient
Work = Callable[[Client, Engine], Awaitable[None]]


def serving(home: Home, work: Work) -> None:
    """Run the app of this home, and the work against its OCR model."""
    serving_parts.serving(home, lambda client, models: work(client, models.ocr))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.serve("1")
    return home


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


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


def test_a_named_version_answers_outside_of_any_experiment(home: Home) -> None:
    async def work(client: Client, engine: Engine) -> None:
        wanted = home.serve("1", challenger="2", weight=1.0, mirror=1.0)
        await until(lambda: engine.follower.current.state == wanted)
        for version, text in (("1", "hello"), ("2", "hcllo"), ("4", "heiio")):
            sent = {"content": png("hello"), "params": {"model_version": version}}
            body = (await client.post("/v1/ocr", **sent)).json()
            assert (body["model_version"], body["variant"], body["text"]) == (version, "explicit", text)
        body = (await client.post("/v1/ocr", content=png("hello"))).json()
        assert (body["model_version"], body["variant"], body["text"]) == ("2", "challenger", "hcllo")

    serving(home, work)


def test_a_client_stays_with_its_arm_and_weight_moves_none_back(home: Home) -> None:
    keys = [f"client {i}" for i in range(12)]

    async def arms(client: Client, engine: Engine, weight: float) -> list[str]:
        wanted = home.serve("1", challenger="2", weight=weight, experiment="exp_1")
        await until(lambda: engine.follower.current.state == wanted)
        sent = [
            client.post("/v1/ocr", content=png("e"), headers={"X-Client-Key": key})
            for key in keys
            for _ in (1, 2)
        ]
        variants = [a.headers["x-model-variant"] for a in await asyncio.gather(*sent)]
        assert variants[::2] == variants[1::2]
        return variants[::2]

    async def work(client: Client, engine: Engine) -> None:
        some, more = await arms(client, engine, 0.4), await arms(client, engine, 0.8)
        assert 0 < some.count("challenger") < more.count("challenger") < len(keys)
        assert all(b == "challenger" for a, b in zip(some, more, strict=True) if a == "challenger")

    serving(home, work)


def test_a_mirrored_request_is_read_by_both_and_answered_by_the_champion(home: Home) -> None:
    async def work(client: Client, engine: Engine) -> None:
        wanted = home.serve("1", challenger="2", mirror=1.0)
        await until(lambda: engine.follower.current.state == wanted)
        body = (await client.post("/v1/ocr", content=png("hello", "there"))).json()
        assert (body["model_version"], body["text"]) == ("1", "hello\nthere")
        while engine._mirrors:
            await asyncio.sleep(0.01)
        [shadow] = [p for p in home.store.predictions.list() if p.mirror_of]
        assert shadow.mirror_of == body["prediction_id"]
        assert (shadow.version, shadow.variant) == ("2", Variant.CHALLENGER)
        assert [b.text for b in shadow.blocks] == ["hcllo", "thcrc"]
        answered = home.store.predictions.get(body["prediction_id"])
        assert [b.polygon for b in shadow.blocks] == [b.polygon for b in answered.blocks]
        told = (await client.get("/metrics")).text
        assert metric(told, "redpencil_mirrored_total", fate="read") == 1

    serving(home, work)


def test_mirroring_gives_way_when_it_is_crowded(home: Home) -> None:
    async def work(client: Client, engine: Engine) -> None:
        wanted = home.serve("1", challenger="2", mirror=1.0)
        await until(lambda: engine.follower.current.state == wanted)
        engine.admission.limit = 1
        assert (await client.post("/v1/ocr", content=png("hello"))).status_code == 200
        assert all(p.mirror_of is None for p in home.store.predictions.list())
        assert metric((await client.get("/metrics")).text, "redpencil_mirrored_total", fate="dropped") == 1

    serving(home, work)


def test_too_many_at_once_are_told_when_to_return(tmp_path: Path) -> None:
    home = Home(tmp_path, queue_limit=4)
    home.serve("1")

    async def work(client: Client, engine: Engine) -> None:
        answers = await asyncio.gather(*(client.post("/v1/ocr", content=png("hello")) for _ in range(30)))
        refused = [a for a in answers if a.status_code == 429]
        assert {a.status_code for a in answers} == {200, 429}
        assert all(int(a.headers["retry-after"]) >= 1 for a in refused)
        assert refused[0].json()["error"]["type"] == "busy"
        assert len(home.store.predictions.list()) == len(answers) - len(refused)
        assert engine.admission.waiting == 0
        assert (await client.post("/v1/ocr", content=png("hello"))).status_code == 200

    serving(home, work)


def test_how_long_to_wait_follows_from_how_fast_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("serving.admission.time.monotonic", lambda: clock[0])
    admission = Admission(40, 1000)
    assert admission.retry_after_s() == 1.0
    with admission.places(30):
        for _ in range(10):
            with admission.places(1):
                clock[0] += 0.5
        assert admission.retry_after_s() == pytest.approx(13.5)
    clock[0] += 3600
    with admission.places(30):
        assert admission.retry_after_s() == 1.0, "the quiet hour tells nothing"


def test_a_body_that_does_not_come_holds_no_place_for_long(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.upload.BODY_S", 0.05)

    async def stalled() -> AsyncIterator[bytes]:
        yield png("hello")[:20]
        await asyncio.sleep(60)

    async def work(client: Client, engine: Engine) -> None:
        late = await client.post("/v1/ocr", content=stalled())
        assert (late.status_code, "did not arrive" in late.json()["error"]["message"]) == (408, True)
        assert engine.admission.bytes_held == 0

    serving(home, work)


def test_one_name_is_one_group_however_it_is_typed(home: Home) -> None:
    async def work(client: Client, engine: Engine) -> None:
        for typed, text in (("M\u00fcller", "one"), ("Mu\u0308ller ", "two")):
            sent = await client.post("/v1/ocr", params={"group": typed}, content=png(text))
            image = home.store.images.get(sent.json()["image"])
            assert image.group == "M\u00fcller"
        broken = await client.post("/v1/ocr", params={"group": "a\u0000b"}, content=png("x"))
        assert (broken.status_code, "U+0000" in broken.json()["error"]["message"]) == (422, True)

    serving(home, work)


def test_a_client_that_goes_away_frees_its_place(home: Home) -> None:
    async def work(client: Client, engine: Engine) -> None:
        gone = [asyncio.create_task(client.post("/v1/ocr", content=png(*["hello"] * 9))) for _ in range(5)]
        while not engine.admission.waiting:
            await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert engine.admission.waiting == engine.admission.bytes_held == 0

    serving(home, work)


def test_before_the_champion_is_there_it_is_not_ready_and_says_why(tmp_path: Path) -> None:
    home = Home(tmp_path)

    async def work(client: Client, engine: Engine) -> None:
        for method, path in (("GET", "/health"), ("GET", "/v2/health/ready"), ("POST", "/v1/ocr")):
            answer = await client.request(method, path, content=png("a") if method == "POST" else None)
            assert (answer.status_code, answer.json()["error"]["type"]) == (503, "not_ready")
            assert "retry-after" in answer.headers
        assert "champion" in (await client.get("/health")).json()["error"]["message"]
        assert (await client.get("/v2/health/live")).json() == {"live": True}
        wanted = home.serve("1")
        await until(lambda: engine.follower.current.state == wanted)
        health = await client.get("/health")
        assert health.status_code == 200
        assert (health.json()["champion"], health.json()["revision"]) == ("1", 1)

    serving(home, work)


def test_swaps_under_load_fail_nothing_and_mix_nothing(home: Home) -> None:
    said = {"1": "hello", "2": "hcllo", "3": "hello", "4": "heiio"}
    revisions: dict[int, str] = {1: "1"}

    async def work(client: Client, engine: Engine) -> None:
        stop = asyncio.Event()

        async def ask() -> int:
            count = 0
            while not stop.is_set():
                answer = await client.post("/v1/ocr", content=png("hello"))
                assert answer.status_code == 200
                body = answer.json()
                assert body["text"] == said[body["model_version"]]
                kept = home.store.predictions.get(body["prediction_id"])
                assert kept.version == revisions[kept.revision]
                count += 1
            return count

        clients = [asyncio.create_task(ask()) for _ in range(4)]
        for version in ("2", "3", "4", "1", "2"):
            revisions[home.store.serving.get("ocr").revision + 1] = version
            home.serve(version)
            while engine.state.state.champion != version:
                await asyncio.sleep(0.01)
        stop.set()
        assert min(await asyncio.gather(*clients)) > 0

    serving(home, work)


def test_a_full_disk_withholds_the_answer_with_a_clear_503(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: FolderBlobs, sha256: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    async def work(client: Client, _: Engine) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(FolderBlobs, "_write", full)
            answer = await client.post("/v1/ocr", content=png("hello"))
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "not_ready")
        assert "No space left" in answer.json()["error"]["message"]
        assert home.store.predictions.list() == []
        assert (await client.post("/v1/ocr", content=png("hello"))).status_code == 200

    serving(home, work)


def test_the_open_inference_protocol_reads_encoded_images_and_pixels(home: Home) -> None:
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(png("hi"), np.uint8), cv2.IMREAD_COLOR_RGB)
    tensors: list[dict[str, Any]] = [
        {"name": "image", "datatype": "BYTES", "shape": [2], "data": [b64(png("hi")), b64(png("hi"))]},
        {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()},
        {
            "name": "image",
            "datatype": "FP32",
            "shape": [1, *pixels.shape],
            "data": (pixels / 255).ravel().tolist(),
        },
    ]

    async def work(client: Client, _: Engine) -> None:
        for tensor in tensors:
            answer = await client.post("/v2/models/ocr/infer", json={"id": "a", "inputs": [tensor]})
            body = answer.json()
            assert answer.status_code == 200, body
            assert (body["model_name"], body["model_version"], body["id"]) == ("ocr", "1", "a")
            outputs = {o["name"]: o for o in body["outputs"]}
            count = 2 if tensor["datatype"] == "BYTES" else 1
            assert outputs["text"] == {
                "name": "text",
                "datatype": "BYTES",
                "shape": [count],
                "data": ["hi"] * count,
            }
            assert home.store.predictions.get(outputs["prediction_id"]["data"][0]).blocks[0].text == "hi"
            assert json.loads(outputs["answer"]["data"][0])["text"] == "hi"
        path = "/v2/models/ocr/versions/2/infer"
        asked = {"inputs": tensors[:1], "outputs": [{"name": "text"}]}
        body = (await client.post(path, json=asked)).json()
        assert (body["model_version"], [o["name"] for o in body["outputs"]]) == ("2", ["text"])

    serving(home, work)


@pytest.mark.parametrize(
    "tensor",
    [
        {"datatype": "BYTES", "shape": [0], "data": []},
        {"datatype": "FP32", "shape": [1, 1, 1], "data": [10**400]},
    ],
)
def test_tensors_without_an_image_are_a_clients_error(home: Home, tensor: dict[str, Any]) -> None:
    async def work(client: Client, _: Engine) -> None:
        answer = await client.post("/v2/models/ocr/infer", json={"inputs": [{"name": "image", **tensor}]})
        assert answer.status_code == 422

    serving(home, work)


def test_the_open_inference_protocol_tells_what_there_is(home: Home) -> None:
    async def work(client: Client, _: Engine) -> None:
        ok = {
            "/v2": "name",
            "/v2/models/ocr": "inputs",
            "/v2/models/ocr/versions/3": "outputs",
            "/v2/models/ocr/ready": "ready",
            "/v2/models/ocr/versions/2/ready": "ready",
        }
        for path, field in ok.items():
            assert field in (await client.get(path)).json(), path
        for path in ("/v2/models/other", "/v2/models/ocr/versions/77", "/v2/models/ocr/versions/77/ready"):
            assert (await client.get(path)).status_code == 404, path
        bad: list[dict[str, Any]] = [
            {},
            {"inputs": []},
            {"inputs": [{"name": "image", "datatype": "INT64", "shape": [1], "data": [1]}]},
            {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": ["aa"]}]},
            {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [2, 2], "data": [1, 2, 3, 4]}]},
            {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 999]}]},
            {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 3], "data": [1, "x", 0]}]},
        ]
        for body in bad:
            answer = await client.post("/v2/models/ocr/infer", json=body)
            assert (answer.status_code, answer.json()["error"]["type"]) == (422, "bad_input"), answer.text

    serving(home, work)


def test_metrics_tell_versions_apart_and_count_refusals(home: Home) -> None:
    async def work(client: Client, _: Engine) -> None:
        await client.post("/v1/ocr", content=png("hello", "there"))
        await client.post("/v1/ocr", content=png("hello"), params={"model_version": "2"})
        await client.post("/v1/ocr", content=b"nonsense")
        told = (await client.get("/metrics")).text
        champion = {"model": "ocr", "version": "1", "variant": "champion"}
        assert metric(told, "redpencil_images_total", **champion) == 1
        assert metric(told, "redpencil_lines_total", **champion) == 2
        assert metric(told, "redpencil_lines_total", version="2", variant="explicit") == 1
        assert metric(told, "redpencil_answer_seconds_count", **champion) == 1
        assert metric(told, "redpencil_errors_total", type="bad_image") == 1
        assert metric(told, "redpencil_journal_commit_seconds_count", model="ocr") == 2
        assert metric(told, "redpencil_waiting_images", model="ocr") == 0

    serving(home, work)


def test_keys_are_asked_for_where_they_are_set(tmp_path: Path) -> None:
    home = Home(tmp_path, api_keys="secret")
    home.serve("1")

    async def work(client: Client, _: Engine) -> None:
        assert (await client.post("/v1/ocr", content=png("a"))).status_code == 401
        key = {"Authorization": "Bearer secret"}
        assert (await client.post("/v1/ocr", content=png("a"), headers=key)).status_code == 200
        assert (await client.get("/health")).status_code == 200

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
        async with Client(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            await client.get("/v1/x", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})

    asyncio.run(run())
    [span] = spans.get_finished_spans()
    assert (span.name, span.attributes["http.response.status_code"]) == ("GET /v1/x", 418)
    assert f"{span.context.trace_id:x}" == "a" * 32
    assert trace.tracer("") is None
