"""Kill parts of a running stack at random moments under traffic, and look for what was lost.

    python -m benchmarks.kill --rounds 20 --seed 0

Clients keep predicting and correcting. After each kill -9 (a replica, serving's driver, services,
MLflow, or everything at once as in a power cut) the stack has to come back by itself, or by `up`
where the supervisor died too; then every acknowledged prediction, image and correction must be there.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from benchmarks.stack import Stack, kill, running
from redpencil.blobs import Blobs
from redpencil.errors import Damaged, NotFound
from redpencil.store import Store

VICTIMS = {
    "replica": "ray::ServeReplica",
    "driver": "-m serving",
    "services": "-m services",
    "mlflow": "mlflow",
}
POWER = "power"
BACK_TIMEOUT_S = 120.0


@dataclass
class Traffic:
    """Clients that predict and correct without pause, and remember what was acknowledged."""

    stack: Stack
    predictions: list[str] = field(default_factory=list)
    corrections: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        with httpx.Client(timeout=10.0) as http:
            while not self.stopped.is_set():
                try:
                    self._once(http, rng)
                except httpx.HTTPError:
                    time.sleep(0.05)  # the part that was killed: nothing was acknowledged

    def _once(self, http: httpx.Client, rng: np.random.Generator) -> None:
        answer = http.post(
            f"{self.stack.settings.serving}/v1/ocr?mode=line",
            content=noise_line(rng),
            headers={"Content-Type": "image/png"},
        )
        if answer.status_code != 200:
            return
        prediction = answer.json()["prediction_id"]
        self.predictions.append(prediction)
        body = {"prediction_id": prediction, "text": f"truth {prediction[-4:]}", "author": "trial"}
        done = http.post(f"{self.stack.settings.services}/v1/corrections", json=body)
        if done.is_success:
            self.corrections.append(done.json()["id"])


def noise_line(rng: np.random.Generator) -> bytes:
    """A small picture that no other request has."""
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (48, 160, 3), dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def trial(rounds: int, seed: int, home: Path, victims: list[str]) -> list[dict[str, object]]:
    """One row per kill: who, when, how long until it answered again, and what was lost so far."""
    rng = random.Random(seed)
    rows: list[dict[str, object]] = []
    with running(home) as stack:
        traffic = Traffic(stack)
        clients = [threading.Thread(target=traffic.run, args=(seed * 100 + n,)) for n in range(4)]
        for client in clients:
            client.start()
        try:
            for number in range(rounds):
                time.sleep(rng.uniform(0.5, 6.0))
                victim = victims[number % len(victims)]
                rows.append({"round": number, "victim": victim} | _kill_and_look(stack, traffic, victim))
                print(json.dumps(rows[-1]), flush=True)
        finally:
            traffic.stopped.set()
            for client in clients:
                client.join()
    return rows


def _kill_and_look(stack: Stack, traffic: Traffic, victim: str) -> dict[str, object]:
    if victim == POWER:
        stack.power_cut()
        stack.up()
    else:
        for process in stack.named(VICTIMS[victim]):
            kill(process)
    back_s = wait_back(stack)
    return {"back_s": round(back_s, 1)} | lost(stack, traffic)


def wait_back(stack: Stack) -> float:
    """Seconds until every part is healthy again."""
    begun = time.monotonic()
    urls = [f"{u}/health" for u in (stack.settings.serving, stack.settings.services, stack.settings.mlflow)]
    while not all(_answers(url) for url in urls):
        if time.monotonic() - begun > BACK_TIMEOUT_S:
            raise RuntimeError(
                f"not back after {BACK_TIMEOUT_S:.0f} s: {[u for u in urls if not _answers(u)]}"
            )
        time.sleep(0.2)
    return time.monotonic() - begun


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).status_code == 200
    except httpx.HTTPError:
        return False


def lost(stack: Stack, traffic: Traffic) -> dict[str, object]:
    """How many acknowledged predictions (with their images) and corrections cannot be found."""
    store, blobs = Store.open(stack.settings.database), Blobs.open(stack.settings.blobs)
    predictions, corrections = list(traffic.predictions), list(traffic.corrections)
    try:
        gone = [p for p in predictions if not _there(lambda p=p: blobs.get(store.predictions.get(p).image))]
        gone += [c for c in corrections if not _there(lambda c=c: store.corrections.get(c))]
    finally:
        store.close()
    return {"predictions": len(predictions), "corrections": len(corrections), "lost": len(gone)}


def _there(look: Callable[[], object]) -> bool:
    try:
        look()
    except (NotFound, Damaged):
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--victims", default="replica,driver,power,services,mlflow")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="redpencil-kill-") as home:
        rows = trial(args.rounds, args.seed, Path(home), args.victims.split(","))
    worst = max(float(str(row["back_s"])) for row in rows)
    print(
        f"{len(rows)} kills, {rows[-1]['predictions']} predictions and {rows[-1]['corrections']} corrections"
    )
    print(f"acknowledged and lost: {rows[-1]['lost']}; slowest recovery {worst:.1f} s")


if __name__ == "__main__":
    main()
