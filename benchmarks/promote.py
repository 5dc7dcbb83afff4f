"""Promotion, rollback and weight changes under constant load: does any request fail?

    python -m benchmarks.promote --requests 5000 --clients 16

Starts a stack of its own, registers the base bundle a second time as a new version, and performs each
action again and again while 16 clients read lines without pause, until each action has seen so many
requests. Prints per action: requests, failures, p50, p99 and the worst latency in milliseconds, and
how long serving took to answer with the new version.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from benchmarks.kill import noise_line
from benchmarks.stack import Stack, running
from redpencil import bundle
from redpencil.blobs import Blobs
from redpencil.registry import Registry
from redpencil.store import Store
from redpencil.types import ModelVersion
from services.client import Client

MODEL = "ocr"
PICTURES = 64


@dataclass
class Load:
    """Clients that read lines one after another; every answer's time and fate is kept."""

    url: str
    clients: int
    latencies_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        pictures = [noise_line(np.random.default_rng(n)) for n in range(PICTURES)]
        for n in range(self.clients):
            threading.Thread(target=self._read, args=(pictures[n:] + pictures[:n],), daemon=True).start()

    def _read(self, pictures: list[bytes]) -> None:
        with httpx.Client(timeout=60.0, headers={"Content-Type": "image/png"}) as http:
            for picture in itertools.cycle(pictures):
                if self.stopped.is_set():
                    return
                begun = time.perf_counter()
                try:
                    status = http.post(self.url, content=picture).status_code
                except httpx.HTTPError as e:
                    status = 0
                    self.failures.append(repr(e))
                self.latencies_ms.append(1000 * (time.perf_counter() - begun))
                if status != 200:
                    self.failures.append(f"HTTP {status}")


def second_version(stack: Stack) -> str:
    """The base bundle again, registered as another version."""
    settings = stack.settings
    store, blobs = Store.open(settings.database), Blobs.open(settings.blobs)
    registry = Registry(settings.mlflow)
    first = store.versions.get(MODEL, "1")
    folder = bundle.fetch(first.bundle, blobs, settings.home / "bundles")
    tags = {"bundle.sha256": f"{first.bundle} again"}
    number = registry.register(MODEL, folder, tags, None, "the base bundle again")
    store.versions.add(ModelVersion(MODEL, number, first.bundle, time.time(), parent="1"))
    store.close()
    return number


def measure(
    stack: Stack, load: Load, name: str, act: Callable[[int], None], requests: int
) -> dict[str, object]:
    """Act every two seconds until so many requests were answered meanwhile."""
    seen, failed = len(load.latencies_ms), len(load.failures)
    times = itertools.count()
    actions_s = []
    while len(load.latencies_ms) - seen < requests:
        begun = time.perf_counter()
        act(next(times))
        actions_s.append(time.perf_counter() - begun)
        time.sleep(2.0)
    latencies = np.array(load.latencies_ms[seen:])
    p50, p99 = np.percentile(latencies, [50, 99])
    return {
        "action": name,
        "times": len(actions_s),
        "requests": len(latencies),
        "failures": len(load.failures) - failed,
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "worst_ms": round(float(latencies.max()), 1),
        "worst_action_s": round(max(actions_s), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="redpencil-promote-") as home, running(Path(home)) as stack:
        for row in rows(stack, args.requests, args.clients):
            print(json.dumps(row), flush=True)


def rows(stack: Stack, requests: int, clients: int) -> list[dict[str, object]]:
    """Nothing, promotion, rollback and weight change, each under the same load."""
    api, other = Client(stack.settings), second_version(stack)
    load = Load(f"{stack.settings.serving}/v1/ocr?mode=line", clients)
    load.start()
    try:
        return _rows(stack, api, other, load, requests)
    finally:
        load.stopped.set()


def _rows(stack: Stack, api: Client, other: str, load: Load, requests: int) -> list[dict[str, object]]:
    model = f"/v1/models/{MODEL}"
    done = [measure(stack, load, "nothing", lambda n: None, requests)]

    def promote(n: int) -> None:
        target = other if n % 2 == 0 else "1"
        api.send(f"{model}/override", {"version": target, "who": "benchmark", "why": "load trial"})
        wait_version(stack, target)

    def rollback(n: int) -> None:
        api.send(f"{model}/rollback", {"who": "benchmark", "why": "load trial"})

    done.append(measure(stack, load, "promotion", promote, requests))
    done.append(measure(stack, load, "rollback", rollback, requests))
    champion = api.read(f"{model}/serving")["champion"]
    challenger = other if champion == "1" else "1"
    body = {"model": MODEL, "challenger": challenger, "weight": 0.1, "who": "benchmark", "why": "load trial"}
    experiment = api.send("/v1/experiments", body)["id"]

    def weigh(n: int) -> None:
        api.send(f"/v1/experiments/{experiment}", {"weight": 0.1 + 0.8 * (n % 2)}, method="PATCH")

    done.append(measure(stack, load, "weight change", weigh, requests))
    return done


def wait_version(stack: Stack, version: str) -> None:
    """Until an answer comes from that version."""
    picture, url = noise_line(np.random.default_rng(0)), f"{stack.settings.serving}/v1/ocr?mode=line"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = httpx.post(url, content=picture, headers={"Content-Type": "image/png"}, timeout=60)
        if answer.json().get("model_version") == version:
            return
    raise RuntimeError(f"version {version} does not answer 30 s after its promotion")


if __name__ == "__main__":
    main()
