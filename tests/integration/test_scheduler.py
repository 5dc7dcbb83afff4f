"""Runs start one at a time, are watched, resumed, given up or stopped; none is forgotten."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from processes import alive
from service_house import CAPTION, MODEL, World

from redpencil.types import Run, RunState
from services import leash, scheduler
from services.schedule import queue
from services.scheduler import Scheduler

SLEEP = "import time; time.sleep(60)"
CRASH = "import sys; sys.exit('out of memory')"


class Watched:
    """A scheduler whose runs are small programs; `code` is what the next ones do."""

    def __init__(self, world: World, code: str = SLEEP, models: tuple[str, ...] = (MODEL,)) -> None:
        self.world, self.store, self.code = world, world.store, code
        self.started: list[str] = []
        self.scheduler = Scheduler(world.store, world.settings, models, self.start)

    def start(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        self.started.append(command[-1])
        return leash.start([sys.executable, "-c", self.code, command[-1]], log)

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.scheduler.tick()

    def until(self, done: Callable[[], bool], timeout_s: float = 120.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.05)
            self.tick()

    def queue(self) -> str:
        return queue(self.store, MODEL, "ppocr", "api").id

    def run(self, id: str) -> Run:
        return self.store.runs.get(id)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.store.close()


@pytest.fixture
def watched(world: World) -> Iterator[Watched]:
    watched = Watched(world)
    yield watched
    watched.scheduler.stop()


def test_one_run_at_a_time_the_oldest_first(watched: Watched) -> None:
    first, second = watched.queue(), watched.queue()
    watched.tick(3)
    assert watched.started == [first]
    assert (watched.run(first).state, watched.run(second).state) == (RunState.RUNNING, RunState.QUEUED)
    assert psutil.pid_exists(watched.run(first).pid or 0)


def test_a_run_that_ends_well_makes_room_for_the_next(watched: Watched) -> None:
    first, second = watched.queue(), watched.queue()
    watched.tick()
    watched.store.runs.update(first, state=RunState.SUCCEEDED, pid=None)
    watched.until(lambda: watched.started == [first, second])


def test_an_interrupted_run_is_resumed_until_it_is_given_up(watched: Watched) -> None:
    watched.code = CRASH
    id = watched.queue()
    watched.until(lambda: watched.run(id).state is RunState.FAILED)
    assert watched.started == [id] * 3
    assert "3 times" in (watched.run(id).error or "")
    assert "out of memory" in (watched.run(id).error or "")


def test_a_killed_process_is_resumed(watched: Watched) -> None:
    id = watched.queue()
    watched.tick()
    os.kill(watched.run(id).pid or 0, signal.SIGKILL)
    watched.until(lambda: len(watched.started) == 2)
    assert (watched.run(id).state, watched.run(id).attempts) == (RunState.RUNNING, 2)


def test_after_a_restart_a_dead_run_is_resumed(watched: Watched) -> None:
    id = watched.queue()
    claimed = watched.store.runs.claim_next(MODEL)
    assert claimed is not None
    watched.store.runs.update(id, pid=2**22 - 1)  # nobody has this number
    watched.tick()
    assert watched.started == [id]


def test_a_stranger_with_the_same_number_is_not_the_run(watched: Watched) -> None:
    id = watched.queue()
    watched.store.runs.claim_next(MODEL)
    watched.store.runs.update(id, pid=os.getpid())  # alive, but somebody else
    watched.tick()
    assert watched.started == [id]


def test_after_a_restart_a_living_run_is_not_started_twice(world: World, watched: Watched) -> None:
    id = watched.queue()
    watched.tick()
    other = Watched(world)
    other.tick(2)
    assert other.started == []
    other.store.runs.cancel(id)
    watched.scheduler._processes.clear()


def test_a_planned_stop_is_no_failed_try(world: World, watched: Watched) -> None:
    id = watched.queue()
    watched.tick()
    pid = watched.run(id).pid or 0
    watched.scheduler.stop()
    assert not psutil.pid_exists(pid)
    assert (watched.run(id).state, watched.run(id).attempts) == (RunState.RUNNING, 0)
    other = Watched(world)
    other.tick()
    assert other.started == [id]
    assert other.run(id).attempts == 1
    other.scheduler.stop()


def test_a_run_of_the_other_model_is_waited_for(world: World) -> None:
    watched = Watched(world, models=world.settings.models)
    first, second = queue(world.store, CAPTION, "catr", "api").id, watched.queue()
    third = queue(world.store, CAPTION, "catr", "api").id
    watched.tick(3)
    assert watched.started == [first]
    ahead = [world.client().get(f"/v1/training-runs/{id}").json()["queue"] for id in (first, second, third)]
    assert ahead == [None, 1, 2]
    for ended, following in ((first, second), (second, third)):
        world.store.runs.update(ended, state=RunState.SUCCEEDED, pid=None)
        watched.until(lambda following=following: watched.started[-1] == following)  # type: ignore[misc]
    watched.scheduler.stop()


def test_a_waiting_run_is_cancelled_at_once(watched: Watched) -> None:
    first, second = watched.queue(), watched.queue()
    watched.tick()
    assert watched.store.runs.cancel(second).state is RunState.CANCELLED
    assert watched.started == [first]


def test_who_does_not_listen_is_terminated_and_then_killed(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "ASKED_S", 0.2)
    watched.code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    id = watched.queue()
    watched.tick()
    pid = watched.run(id).pid or 0
    time.sleep(0.3)
    watched.store.runs.cancel(id)
    watched.until(lambda: watched.run(id).state is RunState.CANCELLED)
    assert not psutil.pid_exists(pid)
    assert watched.started == [id]


def test_runs_end_with_the_services(tmp_path: Path) -> None:
    """kill -9 of the parent: the kernel ends the child."""
    code = (
        "import sys, pathlib; from services import leash;"
        f"sleep = [sys.executable, '-c', {SLEEP!r}];"
        "print(leash.start(sleep, pathlib.Path(sys.argv[1])).pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "child.log")]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)
