"""The caption model beside the OCR model in one replica: same promises, in nobody's way."""

import asyncio
import threading
from pathlib import Path

import pytest
import tiny_bundle
from serving_parts import CAPTION, MODEL, Client, Home, b64, chat, metric, png, serving, until, with_captions

from redpencil.bundle import Manifest
from redpencil.pixels import Pixels
from redpencil.reader import LineReader
from redpencil.types import LineText, Task, Variant
from serving import upload
from serving.engine import COMPANY
from serving.follow import Serving
from serving.models import Models
from serving.reader import Reader


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.serve("1")
    home.serve("1", CAPTION)
    return home


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
        await until(lambda: "version 3 cannot" in str(home.store.replicas.list(CAPTION)))
        await until(lambda: home.store.replicas.list(MODEL))
        assert {r["error"] for r in home.store.replicas.list(MODEL)} == {None}

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


def test_captions_that_may_share_a_run_are_in_work_beyond_the_cores(tmp_path: Path) -> None:
    home = Home(tmp_path, threads=2)
    home.serve("1")

    async def work(client: Client, models: Models) -> None:
        assert (models.ocr.pool.size, models.ocr.pool.cores) == (2, 2)
        assert (models.captions.pool.size, models.captions.pool.cores) == (2 * COMPANY, 2)

    serving(home, work)


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
