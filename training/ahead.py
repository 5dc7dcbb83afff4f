"""Batches made by threads while the model learns from the one before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(makers: Iterable[Callable[[], T]], threads: int) -> Generator[T, None, None]:
    """What the makers give, in their order; so many threads make the next ones meanwhile (0: none).

    A maker's error is raised when its turn comes. Closing the generator waits for what is being made and
    leaves no thread behind.
    """
    if not threads:
        yield from (make() for make in makers)
        return
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads, "loader")
    try:
        for make in makers:
            waiting.append(pool.submit(make))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
