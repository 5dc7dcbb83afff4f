"""The whole cycle on real parts: store, blobs, Ray, MLflow; a model of some hundred parameters."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import tiny_bundle
import tiny_house
from mlflow_server import MlflowServer

from redpencil import bundle, patience, prune
from redpencil.blobs import Blobs
from redpencil.bundle import Manifest, fetch
from redpencil.errors import NotReady
from redpencil.language import Language
from redpencil.registry import Registry
from redpencil.settings import Settings
from redpencil.store import Store, database
from redpencil.types import Outcome, Run, RunState, Split
from training import cycle, report, track
from training.job import Ended, Job

PAPERS = ("before_after.html", "history.json", "learning_curve.png", "report.json")
CYCLE = """
import sys
from redpencil.settings import Settings
from training import cycle
cycle.run(sys.argv[1], Settings())
"""


@pytest.fixture(autouse=True)
def _recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPENCIL_RECIPES", str(tiny_house.RECIPES))


@pytest.fixture
def settings(tmp_path: Path, mlflow_server: MlflowServer) -> Settings:
    return tiny_house.furnish(tmp_path / "home", mlflow_server.url)


def environment(settings: Settings) -> dict[str, str]:
    return os.environ | {f"REDPENCIL_{k.upper()}": str(v) for k, v in settings.model_dump().items()}


def read(settings: Settings, run: str) -> Run:
    with Store.open(settings.database) as store:
        return store.runs.get(run)


def test_a_run_becomes_a_judged_version_with_all_its_papers(settings: Settings, tmp_path: Path) -> None:
    run = cycle.run(tiny_house.queue(settings), settings)
    assert (run.state, run.version, run.error) == (RunState.SUCCEEDED, "2", None)
    with Store.open(settings.database) as store:
        version, verdict = (
            store.versions.get(settings.model, "2"),
            store.versions.verdict(settings.model, "2"),
        )
        assert (version.parent, version.run, version.snapshot) == ("1", run.id, run.snapshot)
        learned = store.snapshots.get(version.snapshot).side(Split.TRAIN)
    folder = fetch(version.bundle, Blobs.open(settings.blobs), tmp_path)
    lineage, spoken = Manifest.load(folder).lineage, Language.of_bundle(folder, Manifest.load(folder))
    assert spoken
    assert spoken.pieces == Language.of(member.text for member in learned).pieces, "and of nothing held out"
    assert (lineage["run"], lineage["parent"], lineage["snapshot"]) == (run.id, "1", run.snapshot)

    registry = Registry(settings.mlflow)
    tags = registry.tags(settings.model, "2")
    assert tags["bundle.sha256"] == version.bundle
    assert tags["snapshot"] == run.snapshot
    assert tags["gate.verdict"] == verdict.outcome
    passed = verdict.outcome is Outcome.PASSED
    assert registry.alias(settings.model, "challenger") == ("2" if passed else None)

    page = registry.client.get_run(run.mlflow_run)
    assert page.info.status == "FINISHED"
    assert page.data.params["lr"] == "0.5"
    assert (page.data.tags["machine.workers"], page.data.tags["lines.rehearse"]) == ("1", "0")
    assert page.inputs.dataset_inputs[0].dataset.digest == run.snapshot[:32]
    assert {"train/loss", "gate/holdout/cer/candidate"} <= page.data.metrics.keys()
    assert len(registry.client.get_metric_history(run.mlflow_run, "train/loss")) == 4
    kept = {f.path for f in registry.client.list_artifacts(run.mlflow_run, "report")}
    assert kept == {
        f"report/{n}" for n in ("before_after.html", "history.json", "learning_curve.png", "report.json")
    }
    told = json.loads(artifact(registry, run, "report/report.json"))
    assert (told["bundle"], told["snapshot"], told["parent"]) == (version.bundle, run.snapshot, "1")
    assert told["best"]["loss"] < 1
    assert {"split", "truth", "before", "after"} <= told["samples"][0].keys()
    assert "data:image/jpeg;base64," in artifact(registry, run, "report/before_after.html")
    assert [r["step"] for r in json.loads(artifact(registry, run, "report/history.json"))] == [
        0,
        20,
        40,
        60,
        80,
    ]
    assert not (settings.home / "runs" / run.id).exists()
    assert cycle.run(run.id, settings) == run


def artifact(registry: Registry, run: Run, name: str) -> str:
    return Path(registry.client.download_artifacts(run.mlflow_run, name)).read_text("utf-8")


@pytest.mark.parametrize("phases", [("snapshot", "train", "export"), ("register", "judge", "announce")])
def test_a_cycle_killed_in_any_step_goes_on(settings: Settings, phases: tuple[str, ...]) -> None:
    run = tiny_house.queue(settings)
    for phase in phases:
        kill_in(phase, settings, run)
        over = RunState.SUCCEEDED if phase == "announce" else RunState.RUNNING  # its end may be quicker
        assert read(settings, run).state in (RunState.RUNNING, over)
    done = cycle.run(run, settings)
    assert (done.state, done.version) == (RunState.SUCCEEDED, "2")
    registry = Registry(settings.mlflow)
    assert len(registry.client.search_runs([registry.experiment(settings.model)])) == 2  # import and this
    assert len(registry.client.search_model_versions(f"name = '{settings.model}'")) == 2
    assert len(registry.client.get_metric_history(done.mlflow_run, "train/loss")) == 4


def kill_in(phase: str, settings: Settings, run: str) -> None:
    """Run the cycle until it is in a step, and kill it at a random moment there or as the step ends."""
    driver = subprocess.Popen([sys.executable, "-c", CYCLE, run], env=environment(settings))
    with Store.open(settings.database) as store:
        while store.runs.get(run).phase != phase:
            assert driver.poll() is None, "it ended by itself"
            time.sleep(0.005)
        moment = time.monotonic() + random.random() * (2.0 if phase == "train" else 0.3)
        while store.runs.get(run).phase == phase and time.monotonic() < moment:
            time.sleep(0.005)
    driver.kill()
    assert driver.wait() in (-signal.SIGKILL, 0)


def never(job: Job) -> Ended:
    raise AssertionError("it trained again")


def test_mlflow_may_be_down_while_a_run_trains(
    settings: Settings, mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "PATIENCE_S", 0.0)
    mlflow_server.stop()
    try:
        run = tiny_house.queue(settings)
        with pytest.raises(NotReady, match="What the run has done is kept"):
            cycle.run(run, settings)
        failed = read(settings, run)
        assert failed.state is RunState.FAILED
        assert "does not answer" in failed.error
    finally:
        mlflow_server.start()
    monkeypatch.undo()
    monkeypatch.setattr(cycle.workers, "train", never)
    done = cycle.run(run, settings)
    assert (done.state, done.error) == (RunState.SUCCEEDED, None)
    history = Registry(settings.mlflow).client.get_metric_history(done.mlflow_run, "train/loss")
    assert len(history) == 4


def test_a_run_waits_for_a_database_that_is_busy_whenever_it_turns_to_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "WAIT_S", 0.01)
    other = sqlite3.connect(settings.home / "redpencil.db", isolation_level=None)
    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: free()))
    seen = set[str]()

    def free() -> None:
        if other.in_transaction:
            other.execute("ROLLBACK")

    def lock_before(name: str) -> None:
        original = getattr(cycle.Cycle, name)

        def call(self: cycle.Cycle, *given: Any) -> Any:
            if (what := f"{name} {given[:1]}") not in seen:
                seen.add(what)
                other.execute("BEGIN IMMEDIATE")
            return original(self, *given)

        monkeypatch.setattr(cycle.Cycle, name, call)

    monkeypatch.setattr(cycle.trial, "hold", partial(cycle.trial.hold, golden=[]))  # it is held twice
    for name in ("begin", "enter", "freeze", "register", "judge", "end"):
        lock_before(name)
    done = cycle.run(tiny_house.queue(settings), settings)
    other.close()
    assert (done.state, done.version, done.phase) == (RunState.SUCCEEDED, "2", "announce")
    assert len(seen) == 5 + 7, "and a step has been entered seven times"
    assert caplog.text.count("waiting, for 60 s at most: The database") == len(seen)


def test_nothing_to_learn_from_is_told_in_words(tmp_path: Path) -> None:
    settings = tiny_house.furnish(tmp_path / "home", lines=0)
    run = tiny_house.queue(settings)
    out = subprocess.run(
        [sys.executable, "-m", "training", run], env=environment(settings), capture_output=True, text=True
    )
    assert out.returncode == 1
    assert "there are no corrections yet" in out.stderr
    assert read(settings, run).state is RunState.FAILED
    assert "there are no corrections yet" in read(settings, run).error


def test_a_run_cancelled_before_it_trains_registers_nothing(settings: Settings) -> None:
    run = tiny_house.queue(settings)
    with Store.open(settings.database) as store:
        store.runs.claim_next(settings.model)
        store.runs.cancel(run)
    assert cycle.run(run, settings).state is RunState.CANCELLED
    assert Registry(settings.mlflow).client.get_latest_versions(settings.model)[0].version == "1"


def test_bundles_that_nobody_uses_go_as_a_run_begins(settings: Settings) -> None:
    blobs, run = Blobs.open(settings.blobs), tiny_house.queue(settings)
    tiny_bundle.build(settings.home / "other", misread={"x": "y"})
    cache, folders = settings.home / "bundles", [settings.home / name for name in ("base", "other")]
    served, other = (fetch(bundle.put(folder, blobs), blobs, cache) for folder in folders)
    for folder in (served, other):
        os.utime(folder, (0, time.time() - prune.KEPT_S - 60))
    with Store.open(settings.database) as store:
        store.runs.claim_next(settings.model)
        store.runs.cancel(run)
    assert cycle.run(run, settings).state is RunState.CANCELLED
    assert list(cache.iterdir()) == [served]


def test_what_a_run_that_is_over_left_behind_is_removed(settings: Settings) -> None:
    over, waiting = tiny_house.queue(settings), None
    with Store.open(settings.database) as store:
        store.runs.cancel(over)
        waiting = tiny_house.queue(settings)
        left = [settings.home / "runs" / run for run in (over, waiting, "run_of_nobody")]
        kept = [Path(settings.storage) / run for run in (over, waiting)]
        for folder in (*left, *kept):
            folder.mkdir(parents=True)
        for _ in range(2):  # a second process finds nothing left
            cycle.clear(store, settings)
    assert [folder.exists() for folder in (*left, *kept)] == [False, True, True, False, True]


def test_a_line_as_thin_as_a_hair_can_be_shown() -> None:
    assert report.small(np.zeros((1, 1800, 3), np.uint8)).startswith(b"\xff\xd8")


def test_sigterm_leaves_the_run_to_be_resumed_and_no_process_behind(settings: Settings) -> None:
    run = tiny_house.queue(settings, steps=100_000)
    driver = subprocess.Popen([sys.executable, "-m", "training", run], env=environment(settings))
    while not read(settings, run).progress:
        assert driver.poll() is None, "it ended by itself"
        time.sleep(0.1)
    started = psutil.Process(driver.pid).children(recursive=True)
    driver.terminate()
    assert driver.wait(timeout=300) == 128 + signal.SIGTERM
    _, left = psutil.wait_procs(started, timeout=120)
    assert not left
    assert read(settings, run).state is RunState.RUNNING
