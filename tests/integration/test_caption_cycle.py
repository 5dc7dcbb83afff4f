"""Captions through the whole cycle: a data set, two workers of which one is lost, a verdict, corrections."""

import time
from pathlib import Path

import gallery
import pytest
from lost_worker import a_lost_worker
from mlflow_server import MlflowServer

from redpencil.blobs import Blobs
from redpencil.bundle import Manifest, fetch
from redpencil.reader import open_reader
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import LedgerEntry, Outcome, Precision, RunState, ServingState
from training import cycle

SMALL = {
    "side": gallery.SIDE,
    "backbone": "resnet18",
    "hidden": 64,
    "heads": 4,
    "inner": 128,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "lr": 1e-3,
    "clip": 1.0,
    "beams": 1,
    "longest": 24,
    "passes": 6,
    "report_every": 12,
    "patience": 0,
}


@pytest.fixture
def settings(tmp_path: Path, mlflow_server: MlflowServer) -> Settings:
    folder = gallery.write(tmp_path / "coco")
    return gallery.furnish(tmp_path / "home", mlflow_server.url, folder, train_workers=2)


def test_catr_from_a_data_set_to_a_judged_version_and_on(settings: Settings, tmp_path: Path) -> None:
    model, run = settings.caption_model, gallery.queue(settings, "catr", **SMALL)
    with a_lost_worker() as jobs:
        done = cycle.run(run, settings)
    assert jobs[0].killed.exists()
    assert (done.state, done.version) == (RunState.SUCCEEDED, "1")
    with Store.open(settings.database) as store:
        version, verdict = store.versions.get(model, "1"), store.versions.verdict(model, "1")
        assert verdict.outcome is not Outcome.FAILED, verdict.reasons  # twelve images may leave it open
        assert verdict.scores["captions"]["holdout"]["candidate"]["cider_d"] > 1
        entry = LedgerEntry("led_1", time.time(), "test", "adopt", model, None, "1", "the first")
        store.serving.change(ServingState(model, 1, champion="1"), entry)
    folder = fetch(version.bundle, Blobs.open(settings.blobs), tmp_path / "bundles")
    assert set(Manifest.load(folder).decoders) == set(Manifest.load(folder).graphs) >= {Precision.FP32}
    assert "bars" in open_reader(folder).read(gallery.paint(3)[0]).text

    gallery.rename(settings, "red", "crimson")
    alone = settings.model_copy(update={"train_workers": 0})
    again = cycle.run(gallery.queue(settings, "catr", **SMALL | {"passes": 1}), alone)
    with Store.open(settings.database) as store:
        second = store.versions.get(model, again.version)
        assert (second.parent, store.versions.verdict(model, "2").champion) == ("1", "1")
    newer = fetch(second.bundle, Blobs.open(settings.blobs), tmp_path / "bundles")
    assert Manifest.load(newer).before is not None
    white = gallery.paint(7)[0]  # nobody has said anything new of these
    assert open_reader(newer, Precision.FP32).read(white) == open_reader(folder, Precision.FP32).read(white)
