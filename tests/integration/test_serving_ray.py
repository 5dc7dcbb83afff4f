"""`python -m serving` as users run it: Ray, HAProxy, replicas; swapped, killed, overfed and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from processes import listening
from serving_parts import CAPTION, Home, png

from benchmarks.stack import command
from redpencil import ports

START_TIMEOUT_S = 240.0
ROOT = Path(__file__).parents[2]


@dataclass
class Served:
    """A running `python -m serving` over a home with tiny bundles."""

    home: Home
    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    log: Path

    @property
    def url(self) -> str:
        return self.home.settings.serving

    def ask(self, text: str = "hello", **query: str) -> httpx.Response:
        return httpx.post(
            f"{self.url}/v1/ocr", content=png(text), params={"mode": "line", **query}, timeout=60
        )

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60)

    def members(self) -> list[psutil.Process]:
        """Its processes, children of children too, by the home in their environment."""
        return [p for p in psutil.process_iter() if _home(p) == str(self.home.settings.home)]

    def replica(self) -> psutil.Process:
        [found] = [p for p in self.members() if "ServeReplica" in command(p)]
        return found

    def wait(self, seconds: float = START_TIMEOUT_S) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        raise TimeoutError(self.log.read_text()[-3000:])


def _home(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("REDPENCIL_HOME")
    except (psutil.Error, OSError):
        return None


@contextmanager
def serving(folder: Path, **settings: object) -> Iterator[Served]:
    home = Home(folder, serving_port=ports.free(1)[0], poll_s=0.1, **settings)
    home.serve("1", previous="2")
    chosen = {f"REDPENCIL_{k.upper()}": str(v) for k, v in home.settings.model_dump().items()}
    environment = {**os.environ, **chosen}
    log = folder / "serving.log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "serving"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
    served = Served(home, process, environment, log)
    try:
        served.wait()
        yield served
    finally:
        process.terminate()
        process.wait(180)
        home.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served"), max_upload_bytes=2_000_000) as served:
        yield served


def test_it_answers_through_the_proxy_and_keeps_what_it_says(served: Served) -> None:
    answer = served.ask("hello world")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["text"], body["model_version"], body["variant"]) == ("hello world", "1", "champion")
    assert served.home.store.predictions.get(body["prediction_id"]).blocks[0].text == "hello world"
    assert served.get(f"/v1/predictions/{body['prediction_id']}").json()["text"] == "hello world"
    assert served.get("/v2/models/ocr/ready").json()["ready"]
    assert "redpencil_images_total" in served.get("/metrics").text
    [row] = served.home.store.replicas.list("ocr")
    assert (row["champion"], row["previous"], row["error"]) == ("1", "2", None)


def test_a_caption_model_that_is_promoted_later_answers_beside_the_ocr_model(served: Served) -> None:
    def ask() -> httpx.Response:
        return httpx.post(f"{served.url}/v1/captions", content=png("two boats"), timeout=60)

    before = ask()
    assert (before.status_code, before.json()["error"]["type"]) == (503, "not_ready")
    assert "docs/captions.md" in before.json()["error"]["message"]
    served.home.serve("1", CAPTION)
    _until(lambda: ask().status_code == 200)
    body = ask().json()
    assert (body["text"], body["model"], body["model_version"]) == ("two boats", CAPTION, "1")
    assert served.get("/health").json()["captions"]["champion"] == "1"
    listed = [m["id"] for m in served.get("/v1/models").json()["data"]]
    assert listed == ["ocr", "ocr:1", "ocr:2", "caption", "caption:1"]
    assert served.ask("hello").json()["model"] == "ocr"


def test_a_request_id_comes_back_exactly_once(served: Served) -> None:
    headers = {"X-Request-ID": "mine-1", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    answer = httpx.post(f"{served.url}/v1/ocr", content=b"nonsense", headers=headers)
    assert answer.headers.get_list("x-request-id") == ["mine-1"]
    assert answer.json()["error"]["request_id"] == "mine-1"
    assert len(served.get("/health").headers.get_list("x-request-id")) == 1


def test_bad_bodies_get_their_status_through_the_proxy(served: Served) -> None:
    def sent(content: bytes, kind: str = "image/png") -> tuple[int, str]:
        answer = httpx.post(
            f"{served.url}/v1/ocr", content=content, headers={"Content-Type": kind}, timeout=60
        )
        return answer.status_code, answer.json()["error"]["type"]

    assert sent(b"x" * 2_000_001) == (413, "too_large")
    assert sent(png("hello")[:60]) == (422, "bad_image")
    assert sent(b"<html>", "text/html") == (415, "unsupported_media")
    assert sent(b"{", "application/json") == (400, "malformed")
    assert served.ask(model_version="77").status_code == 404


def test_nothing_but_the_token_protected_replica_listens_beyond_loopback(served: Served) -> None:
    beyond = [p for p in served.members() if any(not _loopback(ip) for ip in listening(p))]
    for process in beyond:
        assert process.name().startswith("ray::ServeRepli"), process.cmdline()
        assert process.environ().get("RAY_AUTH_MODE") == "token"


def test_promotions_and_rollbacks_under_load_fail_no_request(served: Served) -> None:
    said = {"1": "hello", "2": "hcllo", "3": "hello", "4": "heiio"}
    stop, failures, counts = threading.Event(), list[str](), [0] * 8

    def ask(client: int) -> None:
        with httpx.Client(timeout=60) as http:
            while not stop.is_set():
                answer = http.post(f"{served.url}/v1/ocr?mode=line", content=png("hello"))
                body = answer.json()
                if answer.status_code != 200 or body["text"] != said[body["model_version"]]:
                    failures.append(answer.text)
                counts[client] += 1

    clients = [threading.Thread(target=ask, args=(n,)) for n in range(len(counts))]
    for client in clients:
        client.start()
    try:
        for champion, previous in (("2", "1"), ("1", "2"), ("3", "1"), ("4", "3"), ("1", "4")):
            served.home.serve(champion, previous=previous, challenger="2", weight=0.3)
            _until(lambda champion=champion: served.get("/health").json()["champion"] == champion)
            time.sleep(0.5)
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert failures == []
    assert min(counts) > 0


def test_after_the_kill_of_a_replica_it_comes_back_with_all_it_acknowledged(served: Served) -> None:
    acknowledged = [served.ask("before").json()["prediction_id"] for _ in range(3)]
    before = served.replica()
    before.kill()
    _until(lambda: _answers(served), START_TIMEOUT_S)
    assert served.replica().pid != before.pid
    for prediction in acknowledged:
        assert served.get(f"/v1/predictions/{prediction}").status_code == 200


def test_a_stop_is_quick_and_leaves_no_process(tmp_path: Path) -> None:
    with serving(tmp_path, haproxy=False) as served:
        assert served.ask().json()["text"] == "hello"
        assert len(served.ask().headers.get_list("x-request-id")) == 1
        assert not any("haproxy" in p.name() for p in served.members())
        second = subprocess.run(
            [sys.executable, "-m", "serving"],
            cwd=ROOT,
            env=served.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert "already up" in second.stderr
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) == 0
        assert served.members() == []


def test_when_its_first_process_is_killed_the_rest_goes_too(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.process.kill()
        served.process.wait()
        _until(lambda: served.members() == [], 120)


def _loopback(ip: str) -> bool:
    return ip.replace("::ffff:", "").startswith("127.")


def _answers(served: Served) -> bool:
    try:
        return served.ask().status_code == 200
    except httpx.HTTPError:
        return False


def _until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
