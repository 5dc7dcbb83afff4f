"""Qwen2.5-VL in the loop: a killed run goes on exactly, and the checkpoint of the best CER is kept."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tiny_qwen
from lost_worker import Doomed, numbers

from redpencil.blobs import write_durably
from redpencil.errors import NotFound
from redpencil.settings import Settings
from redpencil.store import Store
from training import half, model_card, workers
from training.freeze import freeze
from training.job import Job, load

SMALL = {"width": 112, "longest": 12, "lr": 0.01, "batch": 8, "steps": 200, "report_every": 10}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen.write(tmp_path_factory.mktemp("hub") / "tiny-qwen")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    folders = (tiny_qwen.publish(home / "first", 70), tiny_qwen.publish(home / "second", 30, first=60))
    return tiny_qwen.furnish(home, *folders)


def job(settings: Settings, base: Path, **params: Any) -> Job:
    run = tiny_qwen.queue(settings, base=str(base), **SMALL | params)
    with Store.open(settings.database) as store:
        made = freeze(store, store.runs.get(run), settings)
        store.runs.update(run, state="failed")  # one at a time may be running
        return made


def test_a_killed_run_goes_on_exactly_and_the_best_cer_decides(settings: Settings, base: Path) -> None:
    """Adapters, optimiser, schedule, order of the lines, augmentation, dropout: as if nothing had been."""
    whole = job(settings, base)
    killed = Doomed.of(job(settings.model_copy(update={"train_workers": 1}), base))
    wanted = workers.fit(whole)
    assert wanted.counts["learn"] > 50
    assert [r["epoch"] for r in wanted.history] == list(range(21))
    best = min(r["val_cer"] for r in wanted.history[1:])
    assert load(whole.folder / workers.BEST)["history"][-1]["val_cer"] == wanted.best["val_cer"] == best < 0.2

    found = workers.train(killed)
    assert killed.went_on(found)
    for one, other in zip(numbers(wanted), numbers(found), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_run_that_could_become_no_version_still_gives_its_best_checkpoint(
    settings: Settings, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job(settings, base, steps=20)
    ended = workers.fit(made)
    write_durably(made.folder / "ended.json", json.dumps(asdict(ended)).encode())
    monkeypatch.setattr(half, "LARGEST", 100_000)
    folder = model_card.publish(made.run.id, tmp_path / "hub", settings, merged=True)
    assert "model.safetensors" in os.listdir(folder)
    assert "| 20 | " in (folder / "README.md").read_text("utf-8")
    (made.folder / workers.BEST).unlink()
    with pytest.raises(NotFound, match="neither a version nor a checkpoint"):
        model_card.publish(made.run.id, tmp_path / "again", settings)
