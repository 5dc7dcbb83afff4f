"""Requests at a server on this machine, and calls in this process, as a measured load."""

from __future__ import annotations

import asyncio
import queue
import random
import resource
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlparse

import numpy as np


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
