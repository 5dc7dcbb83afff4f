"""How much may wait: images have places, bodies have bytes, and who finds none is told when to return."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from redpencil.errors import Busy, TooLarge

REMEMBERED = 64
BODIES_HELD = 8  # bodies of the largest size that may be in memory at once


class Admission:
    """Bounds what a replica holds at once; used from one event loop, so it needs no lock.

    A place is given back however the request ends, also when its client goes away.
    """

    def __init__(self, images: int, largest_body: int) -> None:
        self.limit = images
        self.largest_body, self.bytes_limit = largest_body, BODIES_HELD * largest_body
        self.waiting = 0
        self.bytes_held = 0
        self._done: deque[float] = deque(maxlen=REMEMBERED)

    @contextmanager
    def places(self, images: int) -> Iterator[None]:
        """Hold so many places; Busy where they are not free, TooLarge where they never can be."""
        if images > self.limit:
            raise TooLarge(
                f"{images} images in one request; at most {self.limit} are taken (REDPENCIL_QUEUE_LIMIT)"
            )
        if self.waiting + images > self.limit:
            raise Busy(
                f"{self.waiting} images are waiting, which is the limit (REDPENCIL_QUEUE_LIMIT)",
                self.retry_after_s(),
            )
        if not self.waiting:
            self._done.clear()  # a quiet spell says nothing of how fast images go
        self.waiting += images
        try:
            yield
        finally:
            self.waiting -= images
            now = time.monotonic()
            self._done.extend([now] * images)

    @contextmanager
    def body(self, length: int | None) -> Iterator[None]:
        """Hold memory for a request body of this length; where it is not said, for the largest."""
        length = self.largest_body if length is None else length
        if self.bytes_held and self.bytes_held + length > self.bytes_limit:
            raise Busy("too many large uploads at once", self.retry_after_s())
        self.bytes_held += length
        try:
            yield
        finally:
            self.bytes_held -= length

    def retry_after_s(self) -> float:
        """When a place will probably be free: what waits, at the rate of the last images; 1..60 s."""
        if len(self._done) < 2:
            return 1.0
        seconds_each = (time.monotonic() - self._done[0]) / len(self._done)
        return min(60.0, max(1.0, seconds_each * self.waiting))

    @property
    def crowded(self) -> bool:
        """More than half full: no time for work that nobody waits for."""
        return self.waiting * 2 > self.limit
