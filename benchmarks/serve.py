"""Served lines per second beside ONNX Runtime in a plain loop: same images, same threads, same run.

    python -m benchmarks.serve --data ../shared/data/sroie_receipts --home ~/.redpencil

The server must be up; its champion's bundle is read from the home's database and blobs. Rounds of
loop and server alternate, short ones, since shared machines change their speed within a minute.
Then requests arrive at random at half the rate found, for the latency; at the server, and in this
process at the same reader with as many threads, since lines of many widths wait for one another
there too.
Every request carries an image that the server has not seen (bytes are added after its end), so
each pays for its own blob and row. The client is one lean process; its share of CPU is told.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import random
import statistics
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import cv2

from benchmarks.load import Requests, Tally, arrive, loop, queue_up, saturate
from redpencil import bundle
from redpencil.blobs import Blobs
from redpencil.pixels import open_pages
from redpencil.reader import LineReader
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.trial import served_precision

MAX_SECONDS, MAX_CLIENTS = 120.0, 256
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def champion(settings: Settings) -> LineReader:
    """The bundle that is being served, as its own reader."""
    with Store.open(settings.database) as store:
        state = store.serving.get(settings.model)
        known = store.versions.get(settings.model, str(state.champion))
        precision = served_precision(store, settings.model, known.version)
    folder = bundle.fetch(known.bundle, Blobs.open(settings.blobs), settings.home / "bundles")
    reader = LineReader(folder, precision)
    reader.warm()
    return reader


def lines(data: Path, count: int) -> list[bytes]:
    """So many line images of a data set, spread over its documents."""
    with (data / "lines.tsv").open(newline="", encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    chosen = random.Random(0).sample(names, min(count, len(names)))
    return [_find(data, name).read_bytes() for name in chosen]


def _find(data: Path, name: str) -> Path:
    return data / name if (data / name).exists() else data / "lines" / name


def run(arguments: argparse.Namespace) -> dict[str, object]:
    cv2.setNumThreads(1)
    settings = Settings(home=arguments.home)
    reader, images = champion(settings), lines(arguments.data, arguments.images)
    tensors = [reader.tensor(open_pages(image, None, 10**8, 1)[0])[None] for image in images]
    requests = Requests(urlparse(arguments.url).netloc, images)
    asyncio.run(saturate(arguments.url, requests, arguments.clients, 5.0))
    plain, whole, served = [], [], []
    for _ in range(arguments.rounds):
        seconds = arguments.seconds
        plain.append(loop(lambda i: reader.infer(tensors[i]), len(images), arguments.threads, seconds))
        served.append(asyncio.run(saturate(arguments.url, requests, arguments.clients, seconds)))
        whole.append(loop(lambda i: _read(reader, images[i]), len(images), arguments.threads, seconds))
    half = statistics.median(t.rate for t in served) / 2
    paced = asyncio.run(
        arrive(arguments.url, requests, arguments.clients, 2 * arguments.seconds, half, seed=0)
    )
    inside = queue_up(
        lambda i: _read(reader, images[i]), len(images), arguments.threads, 2 * arguments.seconds, half
    )
    return _report(arguments, reader, plain, whole, served, paced, inside)


def _read(reader: LineReader, image: bytes) -> object:
    return reader.read(open_pages(image, None, 10**8, 1)[0])


def _report(
    arguments: argparse.Namespace,
    reader: LineReader,
    plain: list[float],
    whole: list[float],
    served: list[Tally],
    paced: Tally,
    inside: Tally,
) -> dict[str, object]:
    rate, reference = statistics.median(t.rate for t in served), statistics.median(plain)
    return {
        "data": arguments.data.name,
        "images": arguments.images,
        "clients": arguments.clients,
        "threads": arguments.threads,
        "precision": reader.precision.value,
        "plain_loop_lines_per_s": [round(r, 1) for r in plain],
        "decode_and_read_loop_lines_per_s": [round(r, 1) for r in whole],
        "served_lines_per_s": [round(t.rate, 1) for t in served],
        "served_to_plain": round(rate / reference, 3),
        "served_to_decode_and_read": round(rate / statistics.median(whole), 3),
        "saturated_p50_ms": round(statistics.median(t.at(0.5) for t in served), 1),
        "client_cpu_share": round(sum(t.client_cpu_s for t in served) / sum(t.seconds for t in served), 3),
        "half_load_lines_per_s": round(paced.rate, 1),
        "half_load_p50_ms": round(paced.at(0.5), 1),
        "half_load_p99_ms": round(paced.at(0.99), 1),
        "half_load_p99_to_p50": round(paced.at(0.99) / paced.at(0.5), 2),
        "in_process_p50_ms": round(inside.at(0.5), 1),
        "in_process_p99_ms": round(inside.at(0.99), 1),
        "in_process_p99_to_p50": round(inside.at(0.99) / inside.at(0.5), 2),
        "failures": sum(len(t.failures) for t in [*served, paced]),
        "first_failure": next((f for t in [*served, paced] for f in t.failures), None),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--home", type=Path, default=Path("~/.redpencil").expanduser())
    parser.add_argument("--data", type=Path, required=True, help="folder with lines.tsv")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=8)
    given = parser.parse_args()
    if urlparse(given.url).hostname not in LOOPBACK:
        parser.error("only a server on this machine is put under load")
    given.seconds, given.clients = min(given.seconds, MAX_SECONDS), min(given.clients, MAX_CLIENTS)
    return given


def main() -> None:
    arguments = _arguments()
    urllib.request.urlopen(f"{arguments.url}/health", timeout=5).close()
    print(json.dumps(run(arguments), indent=2))


if __name__ == "__main__":
    main()
