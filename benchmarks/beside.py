"""What a training run costs the clients of the server beside it: latency before, and during.

    python -m benchmarks.beside --set fraktur_archiscribe --rate 10

Starts a stack of its own and corrects 100 lines. Single-line requests then arrive at random, first
with no run under way, then while one trains, until it ends or the time is over. Same images, same
rate. The run is cancelled at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

from benchmarks.load import Requests, Tally, arrive, saturate
from benchmarks.retrain import divide, documents
from benchmarks.stack import Stack, running
from services.client import Client
from services.demo import correct, read_one

CLIENTS = 16
STARTING_TIMEOUT_S = 400.0


def measure(stack: Stack, images: list[bytes], rate: float, seconds: float) -> dict[str, object]:
    """Latencies at one rate, without and with a run."""
    api, url = Client(stack.settings), f"http://127.0.0.1:{stack.settings.serving_port}"
    requests = Requests(urlparse(url).netloc, images, "mode=line")
    asyncio.run(saturate(url, requests, CLIENTS, 5.0))
    before = asyncio.run(arrive(url, requests, CLIENTS, seconds, rate, seed=0))
    run = api.send("/v1/training-runs")["id"]
    starting = _during(api, run, False, STARTING_TIMEOUT_S, lambda: _arrive(url, requests, 5.0, rate))
    training = _during(api, run, True, 2 * seconds, lambda: _arrive(url, requests, 10.0, rate))
    api.send(f"/v1/training-runs/{run}/cancel")
    rows = {"without": [before], "while it starts": starting, "while it trains": training}
    told = {name: _row(tallies) for name, tallies in rows.items()}
    return told | {"requests_per_s": rate}


def _arrive(url: str, requests: Requests, seconds: float, rate: float) -> Tally:
    return asyncio.run(arrive(url, requests, CLIENTS, seconds, rate, seed=requests.sent))


def _during(api: Client, run: str, steps: bool, limit_s: float, work: Callable[[], Tally]) -> list[Tally]:
    """What `work` gave again and again: before the run's first step, or from then on while it trains."""
    found, until = [], time.monotonic() + limit_s
    while time.monotonic() < until:
        now = api.read(f"/v1/training-runs/{run}")
        if now["state"] in ("failed", "cancelled"):
            raise RuntimeError(f"the run {now['state']}: {now['error']}")
        if now["phase"] not in ("", "snapshot", "train") or bool(now["progress"]) is not steps:
            break
        found.append(work())
    return found


def _row(tallies: list[Tally]) -> dict[str, float | int]:
    whole = Tally([x for t in tallies for x in t.latencies], [x for t in tallies for x in t.failures])
    if not whole.latencies:
        return {"requests": 0, "failures": len(whole.failures)}
    told = {"p50_ms": whole.at(0.5), "p99_ms": whole.at(0.99), "worst_ms": whole.at(1.0)}
    counts = {"requests": len(whole.latencies), "failures": len(whole.failures)}
    return counts | {name: round(value, 1) for name, value in told.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    folder = Path(os.environ.get("REDPENCIL_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=folder)
    parser.add_argument("--set", default="fraktur_archiscribe")
    parser.add_argument("--rate", type=float, default=10.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    corrected, unseen = divide(documents(args.data / args.set, 0), 100)
    with tempfile.TemporaryDirectory(prefix="redpencil-beside-") as home, running(Path(home)) as stack:
        api = Client(stack.settings)
        correct(api, [read_one(api, line) for line in corrected])
        images = [line.data for line in unseen]
        print(json.dumps({"set": args.set} | measure(stack, images, args.rate, args.seconds), indent=1))


if __name__ == "__main__":
    main()
