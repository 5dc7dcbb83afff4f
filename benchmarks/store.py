"""How long the store takes, filled with many predictions: `python -m benchmarks.store [URL] [PREDICTIONS]`.

Group commits beside the floor (one fsync of as many bytes), the review queue, states and lineage.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redpencil import snapshot
from redpencil.blobs import Blobs
from redpencil.ids import new_id
from redpencil.lineage import trace
from redpencil.store import Store
from redpencil.types import (
    Block,
    Correction,
    CorrectionState,
    Image,
    Kind,
    LedgerEntry,
    ModelVersion,
    Page,
    Prediction,
    Task,
    Variant,
)

BLOCKS = 5
TEXT = "Total amount due 12.50"
CORRECTIONS = 20_000
SNAPSHOTS = 10


def main(url: str = "", predictions: str = "100000") -> None:
    """Print one line per thing measured."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(url or f"sqlite:///{folder}/redpencil.db", migrate=True)
        measure_blobs(Path(folder))
        measure_commits(store)
        fill(store, int(predictions))
        measure_commits(store)
        correct(store)
        measure_reads(store)
        store.close()


def measure_blobs(folder: Path) -> None:
    blobs = Blobs.open(str(folder / "blobs"))
    for many in (1, 16, 64):
        show(
            f"blobs.put_many, {many} x 30 KB",
            lambda n=many: blobs.put_many([os.urandom(30_000) for _ in range(n)]),
        )
    show("blobs.put, 64 x 30 KB in a row", lambda: [blobs.put(os.urandom(30_000)) for _ in range(64)])
    show("floor: write and fsync 30 KB", lambda: _fsync(folder / "floor", os.urandom(30_000)))


def measure_commits(store: Store) -> None:
    for many, blocks in ((1, 1), (16, 1), (64, 1), (1, 40), (16, 40)):
        show(f"predictions.add_many, {many} of {blocks} lines", lambda m=many, b=blocks: add(store, m, b))


def fill(store: Store, predictions: int) -> None:
    started = time.perf_counter()
    for _ in range(0, predictions, 1000):
        add(store, 1000, BLOCKS)
    took = time.perf_counter() - started
    print(
        f"filled with {predictions:,} predictions of {BLOCKS} lines: {predictions / took:,.0f} predictions/s"
    )


def correct(store: Store) -> None:
    """Corrections of the newest, in ten snapshots, each of which became a version."""
    found = store.predictions.list(limit=CORRECTIONS // BLOCKS)
    for part in range(SNAPSHOTS):
        chosen = found[part::SNAPSHOTS]
        store.corrections.add_many([_correction(p, b) for p in chosen for b in p.blocks])
        started = time.perf_counter()
        frozen = snapshot.take(store, Task.OCR)
        took = time.perf_counter() - started
        store.versions.add(
            ModelVersion("ocr", str(part + 2), f"bundle{part}", time.time(), str(part + 1), frozen.id)
        )
        entry = LedgerEntry(
            new_id("led"), time.time(), "bench", "promote", "ocr", str(part + 1), str(part + 2), ""
        )
        store.ledger.append(entry)
    print(f"snapshot.take of {len(frozen.members):,} corrections: {took:.2f} s")


def measure_reads(store: Store) -> None:
    oldest = store.corrections.live(Task.OCR)[0]
    known = store.predictions.list(limit=1)[0].id
    show("predictions.get", lambda: store.predictions.get(known))
    show("predictions.list, 50", lambda: store.predictions.list(model="ocr"))
    show("predictions.uncorrected, 20 least confident", lambda: store.predictions.uncorrected("ocr", 20))
    show("predictions.uncorrected, 20 at random", lambda: store.predictions.uncorrected("ocr", 20, "random"))
    show("predictions.useful, 10", lambda: store.predictions.useful("ocr", 10))
    show("predictions.uncorrected_count", lambda: store.predictions.uncorrected_count("ocr"))
    show("corrections.list, 50 with states", lambda: store.corrections.list())
    show("corrections.list, 50 deployed", lambda: store.corrections.list(state=CorrectionState.DEPLOYED))
    show(
        "corrections.list, none of that state",
        lambda: store.corrections.list(state=CorrectionState.REVOKED),
        3,
    )
    show("corrections.live", lambda: store.corrections.live(Task.OCR), 3)
    show("versions.learned_from", lambda: store.versions.learned_from(oldest.id))
    show("lineage of a correction", lambda: trace(store, oldest.id))
    show("lineage of a version", lambda: trace(store, "ocr/11"), 3)
    show("serving.get", lambda: store.serving.get("ocr"))


def show(what: str, work: Callable[[], Any], times: int = 20) -> None:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        took.append((time.perf_counter() - started) * 1e3)
    took.sort()
    print(f"{what:45} p50 {took[len(took) // 2]:9.2f} ms   max {took[-1]:9.2f} ms", flush=True)


def add(store: Store, many: int, blocks: int) -> None:
    store.predictions.add_many([_prediction(blocks) for _ in range(many)])


def _prediction(blocks: int) -> tuple[Image, Prediction]:
    sha256, now = os.urandom(32).hex(), time.time()
    found = tuple(_block(n) for n in range(blocks))
    pages = (Page(0, 300, 1200),)
    answer = (new_id("pred"), now, sha256, Task.OCR, "ocr", "1", Variant.CHAMPION, pages, found, 12.0)
    return Image(sha256, sha256, "image/png", now), Prediction(*answer)


def _block(n: int) -> Block:
    confidence = random.random()
    top = 30.0 * n
    place = ((0.0, top), (300.0, top), (300.0, top + 30), (0.0, top + 30))
    return Block(f"p0-b{n}", 0, place, TEXT, confidence, tuple(random.random() for _ in TEXT))


def _correction(p: Prediction, b: Block) -> Correction:
    place = (p.image, "", b.page, b.polygon, TEXT, Kind.CORRECT, "bench", p.model, p.version, p.variant.value)
    return Correction(new_id("corr"), time.time(), Task.OCR, *place, p.id, b.id, b.text)


def _fsync(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    main(*sys.argv[1:])
