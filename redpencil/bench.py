"""The bench on which candidate and champion read the same places, one beside the other."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from zlib import crc32

from redpencil.blobs import Blobs
from redpencil.bundle import fetch
from redpencil.linepack import PackedLine
from redpencil.measure import edits, extent
from redpencil.pixels import Pixels, crop_line, open_pages
from redpencil.reader import Reader, open_reader
from redpencil.settings import Settings
from redpencil.slices import LineScore
from redpencil.store import Store
from redpencil.store.places import place
from redpencil.types import Correction, ModelVersion, Polygon, Precision


@dataclass(frozen=True)
class Place:
    """A region of an image, and all that is held to be true of it: one text, of a caption several."""

    image: str
    group: str
    page: int
    polygon: Polygon
    corrections: tuple[str, ...]
    texts: tuple[str, ...]

    @classmethod
    def of(cls, corrections: Sequence[Correction]) -> Place:
        first, ids = corrections[0], tuple(c.id for c in corrections)
        texts = tuple(c.text for c in corrections)
        return cls(first.image, first.group, first.page, first.polygon, ids, texts)

    @property
    def key(self) -> str:
        """The newest of its corrections."""
        return max(self.corrections)


def places(corrections: Iterable[Correction]) -> list[Place]:
    """The places that these corrections speak of, newest first."""
    found = defaultdict(list)
    for c in corrections:
        found[place(c)].append(c)
    return sorted(map(Place.of, found.values()), key=lambda p: p.key, reverse=True)


@dataclass(frozen=True)
class Reading:
    """One place read by everybody: what each said, and the milliseconds of CPU (of a server: in all)."""

    score: LineScore
    texts: tuple[str, ...]
    said: dict[str, str]
    ms: dict[str, float]


class Bench:
    """Candidate (in each of its precisions) and champion, side by side."""

    def __init__(self, store: Store, blobs: Blobs, settings: Settings, candidate: ModelVersion) -> None:
        self._blobs, self._settings, self._task = blobs, settings, settings.task_of(candidate.model)
        cache, vlm = settings.home / "bundles", settings.vlm_url
        folder = fetch(candidate.bundle, blobs, cache)
        full = open_reader(folder, Precision.FP32, vlm=vlm)
        self._readers: dict[str, Reader] = {"fp32": full}
        if Precision.INT8 in full.manifest.graphs:
            self._readers["int8"] = open_reader(folder, Precision.INT8)
        self.opponent = _opponent(store, candidate)
        if self.opponent:
            served = store.versions.get(candidate.model, self.opponent)
            precision = served_precision(store, served.model, served.version)
            before = fetch(served.bundle, blobs, cache)
            self._readers["champion"] = open_reader(before, precision, vlm=vlm)
        for reader in self._readers.values():
            reader.warm()

    def corrected(self, pool: ThreadPoolExecutor, asked: Sequence[Place]) -> list[Reading]:
        """Read the places; each image is fetched and decoded once."""
        by_image = sorted(asked, key=lambda p: p.image)
        images = [(image, list(here)) for image, here in groupby(by_image, key=lambda p: p.image)]
        return [r for readings in pool.map(self._image, images) for r in readings]

    def packed(self, pool: ThreadPoolExecutor, lines: Sequence[PackedLine]) -> list[Reading]:
        return list(pool.map(self._packed, range(len(lines)), lines))

    def _image(self, image: tuple[str, Sequence[Place]]) -> list[Reading]:
        limits = self._settings.max_pixels, self._settings.max_pages  # serving's, so crops are the same
        pages = open_pages(self._blobs.get(image[0]), None, *limits)
        return [self._read(p.key, p.group, crop_line(pages[p.page], p.polygon), p.texts) for p in image[1]]

    def _packed(self, number: int, line: PackedLine) -> Reading:
        return self._read(f"golden-{number}", "", line.image, (line.text,))

    def _read(self, key: str, group: str, line: Pixels, texts: tuple[str, ...]) -> Reading:
        said, ms = {}, {}
        names = list(self._readers)
        turn = crc32(key.encode()) % len(names)  # nobody always comes first, when the caches are cold
        for name in names[turn:] + names[:turn]:
            reader = self._readers[name]
            elsewhere = reader.device == "vlm"
            clock = time.perf_counter if elsewhere else time.thread_time
            began = clock()
            said[name] = reader.read(line).text
            ms[name] = 1000 * (clock() - began)
        errors = {name: edits(self._task, texts, text) for name, text in said.items()}
        size = extent(self._task, texts)
        score = LineScore(key, size, errors.get("int8"), errors["fp32"], errors.get("champion"), group)
        return Reading(score, texts, said, ms)


def served_precision(store: Store, model: str, version: str) -> Precision | None:
    """What the gate allows to be served of a version; None (the bundle's default) where unjudged."""
    verdict = store.versions.verdict(model, version)
    return verdict.precision if verdict else None


def _opponent(store: Store, candidate: ModelVersion) -> str | None:
    champion = store.serving.get(candidate.model).champion
    return None if champion == candidate.version else champion
