"""Threads that serve in turn: whose turn it is, what they let go of, and how they end."""

import asyncio
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from serving_parts import Watched

from serving.pool import Pool


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(2)
    yield pool
    pool.close()


def test_a_thread_has_let_go_of_an_image_before_anybody_hears_of_it(pool: Pool) -> None:
    image = np.zeros((2, 2, 3), np.uint8).view(Watched)
    known, gone = weakref.ref(image), list[bool]()

    class Loop(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *given: Any, **more: Any) -> asyncio.Handle:
            gone.append(known() is None)
            return super().call_soon_threadsafe(*given, **more)

    async def size() -> int:
        nonlocal image
        reading = pool.lane().run(np.size, image)
        del image
        return await reading

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(size()) == 12
    assert gone[0]


def test_a_thread_that_others_keep_waiting_holds_no_page_that_it_decoded(pool: Pool) -> None:
    gone = threading.Event()

    class Loop(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *given: Any, **more: Any) -> asyncio.Handle:
            handle = super().call_soon_threadsafe(*given, **more)
            del given, more
            assert gone.wait(60), "the thread gets no further until its page is gone"
            return handle

    async def decode() -> bool:
        page = await pool.lane().run(lambda: np.zeros((2, 2, 3), np.uint8).view(Watched))
        known = weakref.ref(page)
        del page
        await asyncio.sleep(0)
        try:
            return known() is None
        finally:
            gone.set()

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(decode())


def test_spare_work_waits_for_the_rest_but_not_for_ever() -> None:
    pool, order, gate = Pool(1), list[str](), threading.Event()

    async def run() -> None:
        first = pool.lane().run(gate.wait)
        spare = pool.lane(spare=True).run(order.append, "spare")
        others = [pool.lane().run(order.append, "other") for _ in range(20)]
        gate.set()
        await asyncio.gather(first, spare, *others)

    asyncio.run(run())
    pool.close()
    assert 5 <= order.index("spare") <= 10


def test_spare_work_waits_while_as_much_is_in_work_as_there_are_cores() -> None:
    pool, order, gate = Pool(4, cores=1), list[str](), threading.Event()

    async def run() -> None:
        waits = [pool.lane().run(gate.wait) for _ in range(2)]
        spare = pool.lane(spare=True).run(order.append, "spare")
        await pool.lane().run(order.append, "other")
        gate.set()
        await asyncio.gather(*waits, spare)

    asyncio.run(run())
    pool.close()
    assert order == ["other", "spare"]


def test_an_error_in_a_thread_reaches_who_waits(pool: Pool) -> None:
    async def run() -> None:
        await pool.lane().run(np.zeros, -1)

    with pytest.raises(ValueError, match="negative"):
        asyncio.run(run())


def test_closing_ends_the_threads() -> None:
    pool = Pool(3)
    assert pool.alive
    pool.close()
    time.sleep(0)
    assert not pool.alive
