"""Captioners whose worker is killed in the middle of a run go on exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gallery
import pytest
import tiny_models
from lost_worker import Doomed, numbers

from redpencil.settings import Settings
from redpencil.store import Store
from training import workers
from training.freeze import freeze
from training.job import Job

NOWHERE = "http://127.0.0.1:9"
STEPS: dict[str, Any] = {"steps": 40, "passes": 0, "report_every": 8, "patience": 0, "batch": 8}


def catr(_: Path) -> dict[str, Any]:
    sizes = {"backbone": "resnet18", "side": gallery.SIDE, "hidden": 32, "heads": 4, "inner": 64}
    return sizes | {"encoder_layers": 1, "decoder_layers": 1, "vocabulary": 200, "longest": 16}


def clip_prefix(folder: Path) -> dict[str, Any]:
    texts = sorted({text for number in range(72) for text in gallery.paint(number)[1]})
    vision = tiny_models.save_clip(folder / "clip")
    language = tiny_models.save_language(folder / "language", texts, 5)
    models = {"vision": str(vision), "language": str(language), "prefix": 3, "inner": 64, "longest": 16}
    return models | {"lora_r": 2}


@pytest.mark.parametrize("family", [catr, clip_prefix])
def test_a_run_that_loses_its_worker_goes_on_exactly(
    family: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    settings = gallery.furnish(tmp_path / "home", NOWHERE, gallery.write(tmp_path / "coco"))
    asked = STEPS | family(tmp_path / "models")
    expected = numbers(workers.train(job(settings, family.__name__, asked)))
    made = Doomed.of(job(settings.model_copy(update={"train_workers": 1}), family.__name__, asked))
    ended = workers.train(made)
    assert numbers(ended) == expected
    assert made.went_on(ended)


def job(settings: Settings, recipe: str, params: dict[str, Any]) -> Job:
    run = gallery.queue(settings, recipe, **params)
    with Store.open(settings.database) as store:
        made = freeze(store, store.runs.get(run), settings)
        store.runs.update(run, state="failed")  # one at a time may be running
        return made
