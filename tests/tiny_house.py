"""A home in which training can work: a store, blobs, a champion that misreads, and corrections of it.

`furnish(home)` makes it; the recipe `tiny` (tests/recipes) learns from it in seconds.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import store_parts
import tiny_bundle

from redpencil import bundle
from redpencil.blobs import Blobs
from redpencil.ids import new_id
from redpencil.registry import Registry
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import (
    Block,
    Correction,
    Image,
    Kind,
    LedgerEntry,
    ModelVersion,
    Page,
    Prediction,
    Run,
    RunState,
    ServingState,
    Task,
    Variant,
)

RECIPES = Path(__file__).parent / "recipes"
MISREAD = {"e": "c", "o": "a"}


NOWHERE = "http://127.0.0.1:9"


def furnish(home: Path, mlflow_url: str = NOWHERE, lines: int = 40, **settings: Any) -> Settings:
    """Make the home; its champion is version 1, and `lines` of its readings are corrected.

    Where an MLflow is given the champion is registered there, under a model name of its own.
    """
    model = "ocr" if mlflow_url == NOWHERE else new_id("ocr")
    made = Settings(home=home, mlflow_url=mlflow_url, model=model, train_threads=1, **settings)
    home.mkdir(parents=True, exist_ok=True)
    with store_parts.new_store(home) as store:
        _enthrone(store, made)
        correct(store, Blobs.open(made.blobs), lines)
    return made


def queue(settings: Settings, recipe: str = "tiny", **params: Any) -> str:
    """Ask for a training run; returns its id."""
    run = Run(new_id("run"), settings.model, recipe, RunState.QUEUED, "test", time.time(), params)
    with Store.open(settings.database) as store:
        store.runs.add(run)
    return run.id


def _enthrone(store: Store, settings: Settings) -> None:
    folder = settings.home / "base"
    tiny_bundle.build(folder, misread=MISREAD)
    name = bundle.put(folder, Blobs.open(settings.blobs))
    if settings.mlflow != NOWHERE:
        Registry(settings.mlflow).register(settings.model, folder, {"bundle.sha256": name})
    store.versions.add(ModelVersion(settings.model, "1", name, time.time()))
    entry = LedgerEntry(new_id("led"), time.time(), "test", "promote", settings.model, None, "1", "the first")
    store.serving.change(ServingState(settings.model, 1, champion="1"), entry)


def correct(store: Store, blobs: Blobs, lines: int, first: int = 0) -> None:
    """Correct so many lines, each of a document of its own, the documents counted from `first`."""
    chance, answered, corrected = random.Random(1 + first), [], []
    for number in range(first, first + lines):
        text = "".join(chance.choices(tiny_bundle.ALPHABET, k=6)).strip() or "a"
        line = tiny_bundle.paint(text)
        sha = blobs.put(cv2.imencode(".png", line)[1].tobytes())
        predicted = "".join(MISREAD.get(c, c) for c in text)
        image = Image(sha, f"document-{number}", "image/png", time.time())
        answered.append((image, _prediction(sha, line, predicted)))
        corrected.append(_correction(*answered[-1], text))
    store.predictions.add_many(answered)
    store.corrections.add_many(corrected)


def _prediction(sha: str, line: np.ndarray, text: str) -> Prediction:
    height, width = line.shape[:2]
    polygon = ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
    block = Block("p0-b0", 0, polygon, text, 0.9)
    return Prediction(
        id=new_id("pred"),
        created_at=time.time(),
        image=sha,
        task=Task.OCR,
        model="ocr",
        version="1",
        variant=Variant.CHAMPION,
        pages=(Page(0, width, height),),
        blocks=(block,),
        latency_ms=1.0,
    )


def _correction(image: Image, prediction: Prediction, text: str) -> Correction:
    return Correction(
        id=new_id("corr"),
        created_at=time.time(),
        task=Task.OCR,
        image=image.sha256,
        group=image.group,
        page=0,
        polygon=prediction.blocks[0].polygon,
        text=text,
        kind=Kind.CORRECT,
        author="ann",
        model="ocr",
        version="1",
        variant="champion",
        prediction=prediction.id,
        region="p0-b0",
        predicted=prediction.blocks[0].text,
    )
