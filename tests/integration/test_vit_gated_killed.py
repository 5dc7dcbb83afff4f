"""vit_gated as the registered OCR model: the real loop, and a worker that is killed in the middle."""

from pathlib import Path
from typing import Any

import tiny_house
from lost_worker import Doomed, numbers

from redpencil.settings import Settings
from redpencil.store import Store
from training import workers
from training.freeze import freeze
from training.job import Job

SIZES = {"height": 32, "width": 192, "patch": 8, "vision_width": 48, "vision_layers": 2, "vision_heads": 4}
SIZES |= {"vision_inner": 96, "hidden": 48, "heads": 4, "inner": 96, "layers": 2, "cross_every": 2}
SIZES |= {"longest": 24, "vocabulary": 300}


def test_an_ocr_run_that_loses_its_worker_goes_on_exactly(tmp_path: Path) -> None:
    """The registered OCR model learns by this family: lines of any length, the real loop, a killed worker."""
    settings = tiny_house.furnish(tmp_path, lines=90)
    steps = {"steps": 50, "report_every": 10, "passes": 0, "patience": 0, "scales": "0.5,1", "batch": 8}
    asked = SIZES | steps
    whole = job(settings, asked)
    made = Doomed.of(job(settings.model_copy(update={"train_workers": 1}), asked | {"loaders": 2}))
    expected = numbers(workers.train(whole))
    ended = workers.train(made)
    assert numbers(ended) == expected
    assert "val_bleu4" in expected[-1]
    assert made.went_on(ended)


def job(settings: Settings, params: dict[str, Any]) -> Job:
    run = tiny_house.queue(settings, "vit_gated", **params)
    with Store.open(settings.database) as store:
        made = freeze(store, store.runs.get(run), settings)
        store.runs.update(run, state="failed")  # one at a time may be running
        return made
