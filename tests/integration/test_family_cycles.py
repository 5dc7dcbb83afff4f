"""vit_gated and clip_prefix the whole way: a data set, two workers, a judged version, corrections, and on."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gallery
import pytest
import tiny_models
from mlflow import MlflowClient
from mlflow_server import MlflowServer

from redpencil import checkpoints
from redpencil.blobs import Blobs
from redpencil.bundle import Manifest, fetch
from redpencil.ids import new_id
from redpencil.reader import open_reader
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import LedgerEntry, Outcome, Run, RunState, ServingState, Verdict
from services.schedule import queue
from training import cycle

Params = dict[str, Any]
STEPS: Params = {"report_every": 18, "patience": 0, "keep_every": 4}


def vit_gated(folder: Path) -> tuple[Params, Params]:
    """Parameters of a first run, and of one that goes on from it."""
    sizes = {"height": gallery.SIDE, "width": gallery.SIDE, "vision_width": 64, "vision_layers": 2}
    sizes |= {"vision_heads": 4, "vision_inner": 128, "hidden": 64, "heads": 4, "inner": 128, "layers": 2}
    sizes |= {"cross_every": 2, "longest": 24, "vocabulary": 400}
    learning = {"lr": 2e-3, "shown": "photo", "scales": "0.67,1", "accumulate": 1, "dropout": 0.0}
    return sizes | learning | {"augment": 0.2, "passes": 12}, {"lr": 1e-3, "passes": 2}


def clip_prefix(folder: Path) -> tuple[Params, Params]:
    """The same; the second run lets a part of the language model learn as well."""
    texts = sorted({text for number in range(72) for text in gallery.paint(number)[1]})
    vision = tiny_models.save_clip(folder / "clip")
    language = tiny_models.save_language(folder / "language", texts, 60)
    models = {"vision": str(vision), "language": str(language), "prefix": 3, "inner": 64, "longest": 24}
    return models | {"lr": 5e-3, "passes": 12}, {"passes": 2, "unfreeze": 1, "lora_r": 2}


@pytest.mark.parametrize("family", [vit_gated, clip_prefix])
def test_from_a_data_set_to_a_judged_version_and_on(
    family: Callable[[Path], tuple[Params, Params]], tmp_path: Path, mlflow_server: MlflowServer
) -> None:
    name, (first, further) = family.__name__, family(tmp_path / "models")
    pictures = gallery.write(tmp_path / "coco")
    settings = gallery.furnish(tmp_path / "home", mlflow_server.url, pictures, train_workers=2)
    done = cycle.run(gallery.queue(settings, name, **STEPS | first), settings)
    assert (done.state, done.version) == (RunState.SUCCEEDED, "1")
    verdict = judged(settings, "1")
    assert verdict.outcome is not Outcome.FAILED, verdict.reasons  # twelve images may leave it open
    assert verdict.scores["captions"]["holdout"]["candidate"]["cider_d"] > 1
    told = MlflowClient(settings.mlflow).get_run(done.mlflow_run).data
    assert {f"validation/{m}" for m in ("cer", "exact", "bleu4", "cider_d")} <= set(told.metrics)
    assert told.tags["machine.workers"] == "2"
    folder = bundle_of(settings, "1", tmp_path / "bundles")
    assert "bars" in open_reader(folder).read(gallery.paint(60)[0]).text
    only_the_fourth_epoch_is_kept(settings, done)
    alone = settings.model_copy(update={"train_workers": 0})
    a_version_of_it_is_made_and_judged(alone, done, folder)

    promote(settings, "1")
    gallery.rename(settings, "red", "crimson")
    again = cycle.run(gallery.queue(settings, name, **STEPS | further), alone)
    assert again.version == "3"
    assert judged(settings, "3").champion == again.params["parent"] == "1"
    newer, older = (Manifest.load(f).lineage for f in (bundle_of(settings, "3", tmp_path / "new"), folder))
    asked = {k: v for k, v in further.items() if k in older["shape"]}
    assert newer["shape"] == older["shape"] | asked
    assert (newer["parent"], newer["parent_bundle"]) == ("1", folder.name)


def judged(settings: Settings, version: str) -> Verdict:
    with Store.open(settings.database) as store:
        verdict = store.versions.verdict(settings.caption_model, version)
    assert verdict is not None
    return verdict


def bundle_of(settings: Settings, version: str, cache: Path) -> Path:
    with Store.open(settings.database) as store:
        name = store.versions.get(settings.caption_model, version).bundle
    return fetch(name, Blobs.open(settings.blobs), cache)


def promote(settings: Settings, version: str) -> None:
    model = settings.caption_model
    entry = LedgerEntry(new_id("led"), time.time(), "test", "adopt", model, None, version, "the first")
    with Store.open(settings.database) as store:
        store.serving.change(ServingState(model, 1, champion=version), entry)


def only_the_fourth_epoch_is_kept(settings: Settings, run: Run) -> None:
    assert list(settings.home.rglob("*.pt")) == [settings.home / "checkpoints" / run.id / "epoch-0004.pt"]
    (told,) = checkpoints.kept(settings, run.id)
    assert (told["recipe"], told["parent"], told["epoch"]) == (run.recipe, None, 4)
    assert "val_cider_d" in told["scores"]


def a_version_of_it_is_made_and_judged(settings: Settings, run: Run, best: Path) -> None:
    """It reads as the run did after that epoch, and is known to have learned what the run learned from."""
    params = checkpoints.to_version(settings, run, 4)
    with Store.open(settings.database) as store:
        made = queue(store, run.model, run.recipe, checkpoints.ASKED, params, run.snapshot)
    assert cycle.run(made.id, settings).version == "2"
    assert judged(settings, "2").scores["captions"]["holdout"]["candidate"]["cider_d"] >= 0
    folder = bundle_of(settings, "2", best.parent)
    lineage = Manifest.load(folder).lineage
    assert (folder != best, lineage["run"], lineage["checkpoint"]) == (True, run.id, f"{run.id}/4")
    with Store.open(settings.database) as store:
        assert store.versions.get(run.model, "2").run == run.id
        assert store.versions.learned_by(run.model, "2") == store.versions.learned_by(run.model, "1")
