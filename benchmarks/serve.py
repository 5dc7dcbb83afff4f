"""Served lines per second beside ONNX Runtime in a plain loop: same images, same threads, same run.

    python -m benchmarks.serve --data ../shared/data/sroie_receipts --home ~/.redpencil

The server must be up; its champion's bundle is read from the home's database and blobs. Rounds of
loop and server alternate. Then requests arrive at random at half the rate found, for the latency;
at the server, and in this process at the same reader with as many threads, since lines of many
widths wait for one another there too.
Every request carries an image that the server has not seen (bytes are added after its end), so
each pays for its own blob and row. The client is one lean process; its share of CPU is told.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import queue
import random
import resource
import statistics
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

import cv2
import numpy as np

from redpencil import bundle
from redpencil.blobs import Blobs
from redpencil.bundle import LineReader
from redpencil.pixels import open_pages
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.trial import served_precision

MAX_SECONDS, MAX_CLIENTS = 120.0, 256
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass
class Requests:
    """The images as ready HTTP requests, each made unique by a counter at its end."""

    host: str
    images: list[bytes]
    query: str = "mode=auto"
    sent: int = 0

    def next(self) -> bytes:
        self.sent += 1
        image = self.images[self.sent % len(self.images)] + b"#%016d%08d" % (
            time.time_ns() // 1000,
            self.sent,
        )
        head = f"POST /v1/ocr?{self.query} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: image/jpeg\r\n"
        return head.encode() + b"Content-Length: %d\r\n\r\n" % len(image) + image


@dataclass
class Tally:
    """What came back."""

    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    client_cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def at(self, share: float) -> float:
        return float(np.quantile(self.latencies, share) * 1000)


class Connection(asyncio.Protocol):
    """One keep-alive connection that has at most one request on its way."""

    def __init__(self, tally: Tally, free: Callable[[Connection], None]) -> None:
        self.tally, self.free = tally, free
        self.buffer = bytearray()
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.free(self)

    def ask(self, request: bytes, since: float) -> None:
        self.since = since
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        headers = bytes(self.buffer[:head]).lower()
        length = int(headers.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self.buffer) < head + 4 + length:
            return
        if headers.startswith(b"http/1.1 200"):
            self.tally.latencies.append(time.perf_counter() - self.since)
        else:
            self.tally.failures.append(bytes(self.buffer[: head + 200]).decode(errors="replace"))
        self.buffer.clear()
        self.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc or self.since < 0:
            self.tally.failures.append(f"connection lost: {exc}")


async def saturate(url: str, requests: Requests, clients: int, seconds: float) -> Tally:
    """Every client asks again as soon as it has its answer."""
    tally, end = Tally(), time.perf_counter() + seconds

    def ask_again(connection: Connection) -> None:
        if time.perf_counter() < end:
            connection.ask(requests.next(), time.perf_counter())

    return await _measure(url, tally, clients, seconds, ask_again)


async def arrive(url: str, requests: Requests, clients: int, seconds: float, rate: float, seed: int) -> Tally:
    """Requests arrive at random (Poisson); latency counts from the arrival, also where no client is free."""
    tally, free, arrived = Tally(), deque[Connection](), deque[float]()
    rng = random.Random(seed)

    def serve() -> None:
        while free and arrived:
            free.popleft().ask(requests.next(), arrived.popleft())

    def take(connection: Connection) -> None:
        free.append(connection)
        serve()

    async def come() -> None:
        due = time.perf_counter()
        end = due + seconds
        while (due := due + rng.expovariate(rate)) < end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            arrived.append(due)
            serve()

    return await _measure(url, tally, clients, seconds, take, come)


async def _measure(
    url: str,
    tally: Tally,
    clients: int,
    seconds: float,
    free: Callable[[Connection], None],
    come: Callable[[], object] | None = None,
) -> Tally:
    target, loop = urlparse(url), asyncio.get_running_loop()
    started, cpu = time.perf_counter(), _cpu_s()
    made = [
        await loop.create_connection(lambda: Connection(tally, free), target.hostname, target.port)
        for _ in range(clients)
    ]
    if come:
        await come()  # type: ignore[misc]
    await asyncio.sleep(max(0.0, started + seconds - time.perf_counter()))
    tally.seconds, tally.client_cpu_s = time.perf_counter() - started, _cpu_s() - cpu
    await asyncio.sleep(0.5)  # what is still under way counts as served, not as time
    for transport, _ in made:
        transport.close()
    return tally


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def loop(work: Callable[[int], object], count: int, threads: int, seconds: float) -> float:
    """Calls per second of `work(i)` in so many threads, over and over the same `count` items."""
    end, done = time.perf_counter() + seconds, [0] * threads

    def run(thread: int) -> None:
        i = thread
        while time.perf_counter() < end:
            work(i % count)
            done[thread] += 1
            i += threads

    started = time.perf_counter()
    running = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(done) / (time.perf_counter() - started)


def queue_up(work: Callable[[int], object], count: int, threads: int, seconds: float, rate: float) -> Tally:
    """`work(i)` at random (Poisson) moments in so many threads of this process; with its waiting time."""
    tally, due = Tally(), queue.SimpleQueue[tuple[float, int] | None]()

    def run() -> None:
        while job := due.get():
            work(job[1])
            tally.latencies.append(time.perf_counter() - job[0])

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    rng, moment = random.Random(0), time.perf_counter()
    for n in range(round(rate * seconds)):
        moment += rng.expovariate(rate)
        time.sleep(max(0.0, moment - time.perf_counter()))
        due.put((moment, n % count))
    for _ in running:
        due.put(None)
    for thread in running:
        thread.join()
    tally.seconds = seconds
    return tally


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
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
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
