"""Several threads have work that takes many steps, and share them."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from redpencil.company import Company

WAIT = 30


@dataclass
class Task:
    """It is over after so many steps; `with_` says whom each was shared with."""

    name: str
    left: int
    over: bool = False
    error: BaseException | None = None
    with_: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)


def advance(those: Sequence[Task]) -> None:
    for task in those:
        assert not task.over
        task.left -= 1
        task.over = not task.left
        task.with_.append("".join(sorted(other.name for other in those)))
        task.threads.add(threading.get_ident())


class Stopped:
    """Steps that each wait for a word, so that a test says what happens between them."""

    def __init__(self) -> None:
        self.begun, self.may = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, those: Sequence[Task]) -> None:
        self.begun.release()
        assert self.may.acquire(timeout=WAIT)
        advance(those)

    def go(self) -> None:
        """Let the step that has begun end."""
        self.may.release()

    def next(self) -> None:
        assert self.begun.acquire(timeout=WAIT)


def until(true: Callable[[], bool]) -> None:
    for _ in range(WAIT * 1000):
        if true():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not happen")


def test_a_newcomer_joins_at_the_next_step_and_is_answered_before_an_older_longer_one() -> None:
    step = Stopped()
    company, long, short = Company(step, most=4, cores=1), Task("l", 5), Task("s", 2)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(company.finish, long)
        step.next()
        second = pool.submit(company.finish, short)
        until(lambda: short in company._open)
        for _ in range(3):
            step.go()
            step.next()
        second.result(WAIT)
        assert not first.done()
        for _ in range(2):
            step.go()
        first.result(WAIT)
    assert long.with_ == ["l", "ls", "ls", "l", "l"]
    assert short.with_ == ["ls", "ls"]


def test_whose_own_work_is_over_leaves_the_rest_to_its_own_thread() -> None:
    step = Stopped()
    company, short, long = Company(step, most=4, cores=1), Task("s", 2), Task("l", 3)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(company.finish, short)
        step.next()
        second = pool.submit(company.finish, long)
        until(lambda: long in company._open)
        step.go()
        step.next()
        step.go()
        first.result(WAIT)
        assert not second.done()
        for _ in range(2):
            step.go()
        second.result(WAIT)
    assert long.with_ == ["ls", "l", "l"]


def test_a_place_that_is_free_is_taken_by_who_waits_for_one() -> None:
    step = Stopped()
    company = Company(step, most=2, cores=1)
    tasks = [Task("a", 9), Task("b", 2), Task("c", 2), Task("d", 1)]
    with ThreadPoolExecutor(4) as pool:
        futures = list[Future[None]]()
        for n, task in enumerate(tasks):
            futures.append(pool.submit(company.finish, task))
            if n == 0:
                step.next()
            else:
                until(lambda n=n: len(company._open) == n)
        for _ in range(9):
            step.go()
        for future in futures:
            future.result(WAIT)
    assert tasks[0].with_ == ["a", "ab", "ab", "ac", "ac", "ad", "a", "a", "a"]


def test_what_is_open_is_divided_among_free_cores() -> None:
    step = Stopped()
    company, tasks = Company(step, most=16, cores=2), [Task(name, 4) for name in "abcdef"]
    with ThreadPoolExecutor(6) as pool:
        with company.core():
            futures = [pool.submit(company.finish, tasks[0])]
            step.next()
            futures += [pool.submit(company.finish, task) for task in tasks[1:]]
            until(lambda: len(company._open) == 5)
            step.go()
            step.next()
        step.go()
        step.next()
        step.next()
        for _ in range(30):
            step.go()
        for future in futures:
            future.result(WAIT)
    assert [len(shared) for shared in tasks[0].with_[:3]] == [1, 6, 3]


def test_as_many_threads_as_cores_do_each_their_own_work() -> None:
    company, tasks = Company(advance, most=16, cores=4), [Task(str(n), 200) for n in range(40)]
    at_work = list[tuple[Task, int]]()

    def finish(task: Task) -> None:
        at_work.append((task, threading.get_ident()))
        with company.core():
            pass
        company.finish(task)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(finish, tasks))
    assert all(task.threads == {thread} for task, thread in at_work)
    assert all(set(task.with_) == {task.name} for task in tasks)


def test_an_error_is_told_to_all_who_shared_the_step_and_to_nobody_later() -> None:
    step = Stopped()

    def picky(those: Sequence[Task]) -> None:
        step(those)
        if any(task.name == "x" for task in those):
            raise ValueError("x")

    company = Company(picky, most=4, cores=1)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(company.finish, Task("a", 9))
        step.next()
        second = pool.submit(company.finish, Task("x", 9))
        until(lambda: len(company._open) == 1)
        step.go()
        step.go()
        for future in (first, second):
            with pytest.raises(ValueError, match="x"):
                future.result(WAIT)
        step.go()
        pool.submit(company.finish, Task("b", 1)).result(WAIT)


def test_who_needs_a_core_before_the_steps_has_it_after_the_step_that_runs() -> None:
    step = Stopped()
    company, task, had = Company(step, most=4, cores=1), Task("a", 2), threading.Event()

    def need() -> None:
        with company.core():
            assert len(task.with_) == 1
            had.set()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(company.finish, task)
        step.next()
        second = pool.submit(need)
        until(lambda: company._first == 1)
        step.go()
        second.result(WAIT)
        assert had.is_set()
        step.go()
        first.result(WAIT)


@pytest.mark.parametrize(("most", "cores"), [(1, 1), (1, 3), (4, 1), (4, 3), (16, 2)])
def test_sixteen_threads_are_all_answered(most: int, cores: int) -> None:
    at_once, peak, lock = 0, 0, threading.Lock()

    def counted(those: Sequence[Task]) -> None:
        nonlocal at_once, peak
        assert len(those) <= most
        with lock:
            at_once += 1
            peak = max(peak, at_once)
        threading.Event().wait(0.0003 * (1 + len(those) % 3))
        advance(those)
        with lock:
            at_once -= 1

    company, tasks = Company(counted, most, cores), [Task(str(n), 1 + n % 7) for n in range(400)]

    def finish(task: Task) -> None:
        with company.core():
            threading.Event().wait(0.0005)
        company.finish(task)

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(finish, task) for task in tasks]:
            future.result(WAIT)
    assert all(task.over for task in tasks)
    assert peak <= cores
    assert not company._open
    assert company._free == cores
