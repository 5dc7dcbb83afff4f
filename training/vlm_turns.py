"""One piece of work after another, in the order in which they came, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from fastapi import Request

from redpencil.errors import NotReady

LOOK_S = 1.0  # from one look whether somebody still waits to the next
RETRY_S = 5.0

T = TypeVar("T")


class Turns:
    """Lets `most` wait, beside what is being done, and refuses more with NotReady.

    The thread is a daemon: a process that is told to end does not wait for what it computes.
    """

    def __init__(self, most: int) -> None:
        self.most, self.waiting = most, 0
        self._queue = SimpleQueue[tuple[Future[Any], Callable[[], Any]]]()
        Thread(target=self._work, name="turns", daemon=True).start()

    async def take(self, request: Request, work: Callable[[], T]) -> T:
        """What `work` gives when its turn has come; whoever has hung up by then has lost it."""
        if self.waiting > self.most:
            raise NotReady(f"{self.most} questions wait already; ask fewer at once", retry_after_s=RETRY_S)
        self.waiting += 1
        turn = Future[T]()
        self._queue.put((turn, work))
        try:
            return await self._awaited(request, asyncio.wrap_future(turn))
        except asyncio.CancelledError as error:
            raise NotReady("the server is being ended", retry_after_s=RETRY_S) from error
        finally:
            turn.cancel()
            self.waiting -= 1

    async def _awaited(self, request: Request, turn: asyncio.Future[T]) -> T:
        while not (await asyncio.wait([turn], timeout=LOOK_S))[0]:
            if await request.is_disconnected():
                raise NotReady("nobody waits for the answer any more")
        return await turn

    def _work(self) -> None:
        while True:
            turn, work = self._queue.get()
            if turn.set_running_or_notify_cancel():
                try:
                    turn.set_result(work())
                except Exception as error:  # noqa: BLE001  whoever waits for the turn is told
                    turn.set_exception(error)
