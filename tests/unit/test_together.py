"""Several threads ask, one of them answers for all."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from redpencil.together import Together


def test_what_comes_while_one_works_goes_together_and_everybody_gets_his_own() -> None:
    begun, go_on, sizes = threading.Event(), threading.Event(), list[int]()

    def squares(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        begun.set()
        assert go_on.wait(30)
        return [n * n for n in items]

    together = Together(squares, most=4)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(together, 0)
        assert begun.wait(30)
        others = [pool.submit(together, n) for n in range(1, 10)]
        while len(together._waiting) < 9:
            threading.Event().wait(0.001)
        go_on.set()
        assert [f.result(30) for f in (first, *others)] == [n * n for n in range(10)]
    assert sizes[0] == 1, "nobody waits for company"
    assert (sum(sizes), max(sizes)) == (10, 4)


def test_an_error_is_told_to_all_who_went_together_and_to_nobody_later() -> None:
    def picky(items: Sequence[int]) -> Sequence[int]:
        if 3 in items:
            raise ValueError("three")
        return items

    together = Together(picky, most=4)
    with pytest.raises(ValueError, match="three"):
        together(3)
    assert together(4) == 4


def test_as_many_work_at_once_as_may() -> None:
    both = threading.Barrier(2, timeout=30)

    def meet(items: Sequence[int]) -> Sequence[int]:
        both.wait()
        return items

    together = Together(meet, most=1, at_once=2)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(together, (1, 2))) == [1, 2]
