"""Qwen2.5-VL the whole way: two data sets, two workers of which one is lost, a verdict, its card, and on."""

import os
import time
from pathlib import Path

import cv2
import pytest
import tiny_qwen
from lost_worker import a_lost_worker
from mlflow_server import MlflowServer

from redpencil.blobs import Blobs
from redpencil.bundle import Manifest, fetch
from redpencil.errors import BadInput, NotFound
from redpencil.reader import open_reader
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import LedgerEntry, RunState, ServingState
from training import cycle, model_card

SMALL = {"width": 112, "longest": 12, "lr": 0.01, "batch": 8, "steps": 200, "report_every": 10}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen.write(tmp_path_factory.mktemp("hub") / "tiny-qwen")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, mlflow_server: MlflowServer) -> Settings:
    home = tmp_path_factory.mktemp("house")
    folders = (tiny_qwen.publish(home / "first", 70), tiny_qwen.publish(home / "second", 30, first=60))
    return tiny_qwen.furnish(home, *folders, mlflow_url=mlflow_server.url, train_workers=2)


@pytest.fixture(scope="module")
def done(house: Settings, base: Path) -> str:
    """A run of two workers that loses one on the way."""
    run = tiny_qwen.queue(house, base=str(base), **SMALL)
    with a_lost_worker() as jobs:
        ended = cycle.run(run, house)
    assert jobs[0].killed.exists()
    assert (ended.state, ended.version) == (RunState.SUCCEEDED, "1")
    return run


def test_two_data_sets_become_a_judged_version_that_reads_and_goes_on(
    house: Settings, done: str, tmp_path: Path
) -> None:
    with Store.open(house.database) as store:
        version, verdict = store.versions.get(house.model, "1"), store.versions.verdict(house.model, "1")
        assert verdict is not None
        assert verdict.scores["holdout"]["cer"]["fp32"] < 0.2
        members = store.snapshots.get(version.snapshot).members
        assert len(members) == len({m.image for m in members}) == 90, "ten images are in both sets"
        entry = LedgerEntry("led_1", time.time(), "test", "adopt", house.model, None, "1", "the first")
        store.serving.change(ServingState(house.model, 1, champion="1"), entry)
    folder = fetch(version.bundle, Blobs.open(house.blobs), tmp_path / "bundles")
    assert set(Manifest.load(folder).decoders) == set(Manifest.load(folder).graphs)
    pages = [cv2.imread(str(house.home / "first" / f"{n:04}.png")) for n in range(8)]
    said = [open_reader(folder).read(page).text for page in pages]
    assert sum(a == b for a, b in zip(said, 2 * tiny_qwen.WORDS[:4], strict=True)) >= 6

    alone = house.model_copy(update={"train_workers": 0})
    again = cycle.run(tiny_qwen.queue(house, **SMALL | {"steps": 10, "lr": 1e-4}), alone)
    with Store.open(house.database) as store:
        assert store.versions.get(house.model, again.version).parent == "1"


def test_the_card_tells_what_is_on_record(house: Settings, done: str, tmp_path: Path) -> None:
    folder = model_card.publish(f"{house.model}/1", tmp_path / "hub", house)
    told = (folder / "README.md").read_text("utf-8")
    assert told.startswith('---\nlibrary_name: "peft"')
    assert f"run `{done}`" in told
    assert "first (" in told
    assert "second (30)" in told or "second (" in told
    assert "| `rank` | 32 |" in told
    assert "| 200 | " in told
    assert "The gate says **" in told
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= set(os.listdir(folder))
    with pytest.raises(BadInput, match="not empty"):
        model_card.publish(f"{house.model}/1", folder, house)
    with pytest.raises(NotFound):
        model_card.publish("run_unknown", tmp_path / "none", house)
