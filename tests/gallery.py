"""A home with a data set of captioned pictures: coloured bars, each said in two ways.

`write` makes it as a folder of COCO's layout, `furnish` as corrections in a store.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import store_parts

from redpencil import datasets
from redpencil.blobs import Blobs
from redpencil.ids import new_id
from redpencil.pixels import Pixels, whole
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Correction, Image, Kind, Run, RunState, Task

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "white": (240, 240, 240)}
SIDE = 48


def paint(number: int) -> tuple[Pixels, tuple[str, str]]:
    """The n-th picture and what is said of it."""
    colour, bars = list(COLOURS)[number % 4], 1 + number // 4 % 3
    picture = np.full((SIDE, SIDE, 3), 20, np.int16)
    for bar in range(bars):
        picture[6 + 12 * bar : 14 + 12 * bar, 8:40] = COLOURS[colour]
    noisy = picture + np.random.default_rng(number).normal(0, 6, picture.shape)
    said = (f"{bars} {colour} bars on black", f"a black picture with {bars} {colour} bars")
    return np.clip(noisy, 0, 255).astype(np.uint8), said


def write(folder: Path, train: int = 60, held: int = 12) -> Path:
    """A folder as COCO publishes captions."""
    (folder / "annotations").mkdir(parents=True)
    for split, numbers in (("train", range(train)), ("val", range(train, train + held))):
        (folder / split).mkdir()
        content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
        for number in numbers:
            picture, said = paint(number)
            name = f"{number:04}.png"
            cv2.imwrite(str(folder / split / name), picture[:, :, ::-1])
            content["images"].append({"id": number, "file_name": name})
            content["annotations"] += [{"image_id": number, "caption": text} for text in said]
        (folder / "annotations" / f"captions_{split}.json").write_text(json.dumps(content))
    return folder


def furnish(home: Path, mlflow_url: str, folder: Path, **settings: Any) -> Settings:
    """A home whose caption model has the folder's texts as corrections, and no version yet."""
    named = {"mlflow_url": mlflow_url, "caption_model": new_id("caption"), "train_threads": 1}
    made = Settings(home=home, **named | settings)
    home.mkdir(parents=True, exist_ok=True)
    with store_parts.new_store(home) as store:
        blobs = Blobs.open(made.blobs)
        for sample in datasets.read(folder).samples:
            data = sample.image.read_bytes()
            image = Image(blobs.put(data), sample.group_in("gallery"), "image/png", time.time())
            store.images.add_many([image])
            store.corrections.add_many([_said(image, n, text) for n, text in enumerate(sample.texts)])
    return made


def rename(settings: Settings, old: str, new: str, count: int = 8) -> None:
    """Somebody says of so many pictures what was said of them, in another word."""
    with Store.open(settings.database) as store:
        live = store.corrections.live(Task.CAPTION)
        said = [c for c in live if f" {old} " in c.text and c.author == "reference 1"][:count]
        fresh = {"created_at": time.time(), "author": "ann"}
        texts = [c.text.replace(old, new) for c in said]
        store.corrections.add_many(
            [replace(c, id=new_id("corr"), text=t, **fresh) for c, t in zip(said, texts, strict=True)]
        )


def queue(settings: Settings, recipe: str, **params: Any) -> str:
    """Ask for a training run of the caption model; returns its id."""
    model = settings.caption_model
    run = Run(new_id("run"), model, recipe, RunState.QUEUED, "test", time.time(), params)
    with Store.open(settings.database) as store:
        store.runs.add(run)
    return run.id


def _said(image: Image, number: int, text: str) -> Correction:
    return Correction(
        id=new_id("corr"),
        created_at=time.time(),
        task=Task.CAPTION,
        image=image.sha256,
        group=image.group,
        page=0,
        polygon=whole(np.zeros((SIDE, SIDE, 3), np.uint8)),
        text=text,
        kind=Kind.BLIND,
        author=f"reference {number + 1}",
    )
