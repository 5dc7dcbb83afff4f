"""Which version answers: named, by arm or mirrored, and through every change of champion."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import serving_parts
from serving_parts import Client, Home, metric, png, until

from redpencil.types import Variant
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


def test_a_client_is_the_same_by_header_whatever_its_letters(home: Home) -> None:
    key = "Łukasz 山田"

    async def work(client: Client, engine: Engine) -> None:
        wanted = home.serve("1", challenger="2", weight=0.5, experiment="exp_1")
        await until(lambda: engine.follower.current.state == wanted)
        header = {"X-Client-Key": key.encode()}
        ways = [
            client.post("/v1/ocr", content=png("e"), params={"client_key": key}),
            client.post("/v1/ocr", content=png("e"), headers=header),
            *(client.post("/v2/models/ocr/infer", json=tensor(word), headers=header) for word in "abcdef"),
        ]
        answers = await asyncio.gather(*ways)
        assert {a.status_code for a in answers} == {200}, [a.text for a in answers]
        assert len({a.headers["x-model-variant"] for a in answers}) == 1
        id = answers[1].json()["prediction_id"]
        assert home.store.predictions.get(id).client_key == key

    serving(home, work)


def tensor(word: str) -> dict[str, object]:
    return {"inputs": [{"shape": [1], "datatype": "BYTES", "data": [serving_parts.b64(png(word))]}]}
