"""A house in which versions of the tiny bundle stand trial: by lines, or by captions of images."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import store_parts
import tiny_bundle

from redpencil import bench, bundle, snapshot, trial
from redpencil.blobs import Blobs
from redpencil.linepack import PackedLine
from redpencil.settings import Settings
from redpencil.snapshot import side_of
from redpencil.types import Correction, ModelVersion, ServingState, Split, Task, Verdict

GOLDEN = [
    PackedLine(tiny_bundle.paint(text), text) for text in ("old and gold", "the base stays", "as it was")
]
THINGS = ("dog", "cat", "bird", "road", "tree", "boat", "lamp", "book", "crab", "door", "moon", "hand")


class Even(threading.local):
    """A clock by which every reading takes as long: how busy a machine is decides no verdict here."""

    readings = 0.0

    def thread_time(self) -> float:
        self.readings += 0.001
        return self.readings


class House:
    """A store and blobs in which versions of the tiny bundle stand trial."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.model, self.task = "ocr", Task.OCR
        home.mkdir(exist_ok=True)
        self.store = store_parts.new_store(home)
        self.blobs = Blobs.open(self.settings.blobs)
        self.made = 0

    def version(
        self,
        name: str,
        parent: str | None = None,
        learned: bool = False,
        run: str | None = None,
        **how: object,
    ) -> None:
        folder = self.settings.home / f"made-{name}"
        tiny_bundle.build(folder, lineage={"name": name}, **how)
        taken = snapshot.take(self.store, self.task).id if learned else None
        kept = bundle.put(folder, self.blobs)
        self.store.versions.add(ModelVersion(self.model, name, kept, time.time(), parent, taken, run))

    def serve(self, name: str) -> None:
        now = self.store.serving.get(self.model)
        entry = store_parts.entry(model=self.model, to_version=name)
        self.store.serving.change(ServingState(self.model, now.revision + 1, champion=name), entry)

    def correct(self, text: str, side: Split, lines: int = 1) -> list[Correction]:
        """One page in one document with `lines` equal lines, all corrected."""
        self.made += 1
        group = next(g for n in range(99) if side_of(g := f"document {self.made}.{n}") is side)
        line = tiny_bundle.paint(text)
        page = cv2.imencode(".png", np.concatenate([line] * lines))[1].tobytes()
        image = store_parts.image("", group)
        image = type(image)(self.blobs.put(page), group, "image/png", time.time())
        self.store.predictions.add_many([(image, store_parts.prediction(image))])
        height, width = line.shape[:2]
        tops = [n * height for n in range(lines)]
        boxes = [((0.0, y), (width, y), (width, y + height), (0.0, y + height)) for y in tops]
        made = [store_parts.correction(image, text, polygon=box) for box in boxes]
        self.store.corrections.add_many(made)
        return made

    def judge(self, name: str, golden: Sequence[PackedLine] = GOLDEN, **settings: object) -> Verdict:
        at = self.settings.model_copy(update=settings)
        with mock.patch.object(bench, "time", Even()):
            return trial.hold(self.store, self.blobs, at, self.model, name, golden)


class Gallery(House):
    """A house whose model says of each image what is painted there: its caption."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.model, self.task = self.settings.caption_model, Task.CAPTION

    def describe(self, painted: str, side: Split, *references: str) -> list[Correction]:
        """One image, captioned by several people; by default one says what is painted."""
        self.made += 1
        group = next(g for n in range(99) if side_of(g := f"image {self.made}.{n}") is side)
        pixels = tiny_bundle.paint(painted)
        image = store_parts.image("", group)
        png = cv2.imencode(".png", pixels)[1].tobytes()
        image = type(image)(self.blobs.put(png), group, "image/png", time.time())
        self.store.predictions.add_many([(image, store_parts.prediction(image, model=self.model))])
        height, width = (float(n) for n in pixels.shape[:2])
        whole = ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
        made = [
            store_parts.correction(
                image, text, polygon=whole, task=Task.CAPTION, author=f"reference {n}", model=self.model
            )
            for n, text in enumerate(references or (painted,))
        ]
        self.store.corrections.add_many(made)
        return made


def pictures(gallery: Gallery, side: Split, words: str = "a {} by the sea") -> list[Correction]:
    return [c for thing in THINGS for c in gallery.describe(words.format(thing), side)]
