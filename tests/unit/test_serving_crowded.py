"""Too many at once, clients that stall or leave, a full disk: said so, and no place is lost."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import serving_parts
from serving_parts import Client, Home, png

from redpencil.blobs import FolderBlobs
from redpencil.errors import Busy
from serving.admission import Admission
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


def test_a_body_of_unsaid_length_may_be_as_large_as_any() -> None:
    admission = Admission(40, 1000)
    with ExitStack() as held:
        for _ in range(8):
            held.enter_context(admission.body(None))
        with pytest.raises(Busy, match="too many large uploads"):
            held.enter_context(admission.body(1))
    assert admission.bytes_held == 0


def test_a_version_that_is_being_loaded_keeps_no_other_question_waiting(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(client: Client, engine: Engine) -> None:
        given = (await client.post("/v1/ocr", content=png("hello"))).json()["prediction_id"]
        loaded = threading.Event()
        monkeypatch.setattr(engine.follower, "reader", lambda _: loaded.wait(60) and None)
        named = [asyncio.create_task(client.get("/v2/models/ocr/versions/7/ready")) for _ in range(50)]
        await asyncio.sleep(0)
        kept = await asyncio.wait_for(client.get(f"/v1/predictions/{given}"), 30)
        assert kept.status_code == 200
        assert not loaded.is_set()
        loaded.set()
        await asyncio.gather(*named)

    serving(home, work)


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
