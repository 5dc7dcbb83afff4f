"""Threads that serve requests in turn: one piece of work of each, so that a page delays no line."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
Told = list[tuple[asyncio.Future[Any], object, Exception | None]]
"""How a piece of work ended, once, until its loop has heard of it."""

SPARE_EVERY = 8  # while there is other work, so many pieces of it go before one spare piece


class Lane:
    """The work of one request; it advances by one piece whenever its turn comes."""

    def __init__(self, pool: Pool, spare: bool) -> None:
        self.spare = spare
        self.pieces: deque[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._pool = pool

    def run(self, work: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Have a thread of the pool do this; a piece whose future is cancelled in time is skipped."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pool.add(self, (future, work, args))
        return future


class Pool:
    """A fixed number of threads. Spare lanes get what is left over, and else every eighth turn.

    Nothing is left over while as many pieces are in work as there are `cores` for them (0: one per thread).
    """

    def __init__(self, threads: int, name: str = "reader", cores: int = 0) -> None:
        self.size, self.cores, self._busy = threads, cores or threads, threads
        self._ready = threading.Condition()
        self._turns: deque[Lane] = deque()
        self._spare_turns: deque[Lane] = deque()
        self._since_spare = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def lane(self, spare: bool = False) -> Lane:
        return Lane(self, spare)

    def add(self, lane: Lane, piece: tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]) -> None:
        with self._ready:
            if self._closed:
                raise RuntimeError("the pool is closed")
            if not lane.pieces:
                self._queue_of(lane).append(lane)
            lane.pieces.append(piece)
            self._ready.notify()

    @property
    def queued(self) -> int:
        """How many lanes wait for a turn."""
        return len(self._turns)

    @property
    def alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Let the pieces in work finish and drop the rest."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join()

    def _queue_of(self, lane: Lane) -> deque[Lane]:
        return self._spare_turns if lane.spare else self._turns

    def _next(self) -> tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]] | None:
        with self._ready:
            self._busy -= 1
            while not (self._turns or (self._spare_turns and self._busy < self.cores) or self._closed):
                self._ready.wait()
            if self._closed:
                return None
            self._busy += 1
            turns = self._whose_turn()
            lane = turns.popleft()
            piece = lane.pieces.popleft()
            if lane.pieces:
                turns.append(lane)
            return piece

    def _whose_turn(self) -> deque[Lane]:
        self._since_spare += 1
        if self._spare_turns and (not self._turns or self._since_spare > SPARE_EVERY):
            self._since_spare = 0
            return self._spare_turns
        return self._turns

    def _work(self) -> None:
        while piece := self._next():
            future, work, args = piece
            del piece
            told: Told = [(future, *((None, None) if future.cancelled() else _outcome(work, args)))]
            del future, work, args  # before anybody goes on: no thread must keep an image alive
            _tell(told)


def _outcome(work: Callable[..., Any], args: tuple[Any, ...]) -> tuple[object, Exception | None]:
    try:
        return work(*args), None
    except Exception as exc:  # noqa: BLE001  whatever it was, whoever waits for it is told
        return None, exc


def _tell(told: Told) -> None:
    loop = told[0][0].get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(_settle, told)


def _settle(told: Told) -> None:
    """Takes the outcome out of the list, which the thread may hold for as long as others keep it waiting."""
    future, result, error = told.pop()
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
