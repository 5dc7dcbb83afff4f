"""Threads that write texts in each other's company: whoever has a core goes on with what all have open."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Work(Protocol):
    """What takes several steps until it is over."""

    over: bool
    error: BaseException | None


W = TypeVar("W", bound=Work)


class Company(Generic[W]):
    """Takes work of several threads step by step, up to `most` pieces in a step, on so many `cores`.

    Nobody waits for company: who comes goes on at once where a core is free, else from the next step on,
    in a place that is free by then. What is open is divided among the cores that are; a thread that
    has one steps for all until its own work is over. As many threads as cores do each their own work.
    An error is told to all whose work was in the step.
    """

    def __init__(self, step: Callable[[Sequence[W]], object], most: int, cores: int) -> None:
        self._step, self._most, self._free = step, most, cores
        self._open: deque[W] = deque()  # and in no step just now, the oldest first
        self._first = 0  # threads that wait for a core before anybody takes the next step
        self._changed = threading.Condition()

    def finish(self, work: W) -> None:
        """Return once this is over, or raise what one of its steps raised."""
        with self._changed:
            self._open.append(work)
            while not (work.over or work.error):
                if self._open and self._free > self._first:
                    self._advance(self._share())
                else:
                    self._changed.wait()
            self._changed.notify_all()  # the core that it leaves may be one that others wait for
        if work.error:
            raise work.error

    @contextmanager
    def core(self) -> Iterator[None]:
        """A core for what comes before the steps, which goes first: the more are open, the more share."""
        with self._changed:
            self._first += 1
            try:
                self._changed.wait_for(lambda: self._free)
            finally:
                self._first -= 1
            self._free -= 1
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def _share(self) -> list[W]:
        """The oldest of what is open, and no more than other free cores leave."""
        share = -(-len(self._open) // (self._free - self._first))
        return [self._open.popleft() for _ in range(min(share, self._most))]

    def _advance(self, those: Sequence[W]) -> None:
        """Take a step; the lock is let go meanwhile, and what is not over is open again."""
        self._free -= 1
        if self._open and self._free:
            self._changed.notify_all()
        self._changed.release()
        try:
            self._step(those)
        except BaseException as exc:  # noqa: BLE001  whoever waits for it is told
            for one in those:
                one.error = exc
        self._changed.acquire()
        self._free += 1
        going = [one for one in those if not (one.over or one.error)]
        self._open.extendleft(reversed(going))
        if len(going) < len(those) or self._first:
            self._changed.notify_all()
