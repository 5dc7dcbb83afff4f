"""A run that loses its worker or its driver goes on as if nothing had happened."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_house
from lost_worker import Doomed, numbers

from redpencil.settings import Settings
from redpencil.store import Store
from training import workers
from training.freeze import freeze
from training.job import Ended, Job, load
from training.place import LATEST

DRIVER = (
    "import pickle, sys; from training import workers; workers.train(pickle.load(open(sys.argv[1], 'rb')))"
)
IDLE = """
import json
from training.priority import current, yield_to_others
yield_to_others()
from redpencil.settings import Settings
from training import workers
with workers.cluster(Settings()):
    import ray
    print(json.dumps([current(), ray.get(ray.remote(current).remote())]))
"""
STEPS = {"steps": 60, "report_every": 10}


@pytest.fixture(autouse=True)
def _recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPENCIL_RECIPES", str(tiny_house.RECIPES))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return tiny_house.furnish(tmp_path_factory.mktemp("home"), lines=70)


@pytest.fixture(scope="module")
def done(settings: Settings) -> tuple[Job, Ended]:
    """A run that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDPENCIL_RECIPES", str(tiny_house.RECIPES))
        made = job(settings)
        return made, workers.train(made)


@pytest.fixture
def whole(done: tuple[Job, Ended]) -> list[dict[str, Any]]:
    """Its numbers."""
    return numbers(done[1])


def job(settings: Settings) -> Job:
    run = tiny_house.queue(settings, **STEPS)
    with Store.open(settings.database) as store:
        made = freeze(store, store.runs.get(run), settings)
        store.runs.update(run, state="failed")  # one at a time may be running
        return made


def when(ready: Callable[[], bool], then: Callable[[], None], timeout_s: float = 180) -> threading.Thread:
    """Do something from a thread, once."""

    def watch() -> None:
        deadline = time.monotonic() + timeout_s
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.05)
        then()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def with_workers(made: Job, count: int) -> Job:
    return replace(made, settings=made.settings.model_copy(update={"train_workers": count}))


def epochs_kept(made: Job) -> int:
    """How many epochs the checkpoints in the storage tell of."""
    folder = Path(made.settings.storage, made.run.id)
    if (folder / LATEST).exists():
        return int(load(folder / LATEST)["epoch"])
    return len(list(folder.glob("checkpoint_*")))


def test_a_killed_worker_costs_nothing(settings: Settings, whole: list[dict[str, Any]]) -> None:
    made = Doomed.of(with_workers(job(settings), 1))
    ended = workers.train(made)
    assert numbers(ended) == whole
    assert made.went_on(ended)


@pytest.mark.parametrize("count", [0, 1])
def test_a_killed_driver_goes_on_where_it_was(
    settings: Settings, whole: list[dict[str, Any]], tmp_path: Path, count: int
) -> None:
    """Alone or with a worker: the whole of it is gone, and the same job is begun again."""
    made = with_workers(job(settings), count)
    (tmp_path / "job").write_bytes(pickle.dumps(made))
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, tmp_path / "job"], env={**os.environ, "REDPENCIL_TINY_PAUSE_S": "0.5"}
    )
    when(lambda: epochs_kept(made) >= 2, driver.kill).join()
    assert driver.wait() == -signal.SIGKILL
    before = epochs_kept(made)
    ended = workers.train(made)
    assert numbers(ended) == whole
    assert before < ended.history[-1]["epoch"], "the driver had already finished"


def test_a_run_that_was_over_ends_at_once_when_it_is_run_again(done: tuple[Job, Ended]) -> None:
    made, first = done
    assert workers.train(made).history == first.history


def test_training_under_idle_priority_stays_there() -> None:
    """Every process of a Ray that is started at idle priority inherits it."""
    out = subprocess.run(
        [sys.executable, "-c", IDLE], capture_output=True, text=True, check=True, timeout=900
    )
    assert json.loads(out.stdout.splitlines()[-1]) == ["idle", "idle"]
