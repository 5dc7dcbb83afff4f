"""A candidate reads what the champion reads, and the gate judges.

`python -m redpencil.trial MODEL VERSION` prints the verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from zlib import crc32

from redpencil import gate, linepack, metrics
from redpencil.blobs import Blobs
from redpencil.bundle import LineReader, fetch
from redpencil.errors import RedpencilError
from redpencil.gate import Latency, LineScore
from redpencil.linepack import PackedLine
from redpencil.pixels import Pixels, crop_line, open_pages
from redpencil.settings import Settings
from redpencil.snapshot import side_of
from redpencil.store import Store
from redpencil.types import Correction, ModelVersion, Outcome, Precision, Split, Task, Verdict

MOST_LINES = 2000
"""Per slice, the newest count: reading more would take longer than it could tell."""


def hold(
    store: Store,
    blobs: Blobs,
    model: str,
    version: str,
    cache: Path,
    *,
    max_pixels: int = Settings.model_fields["max_pixels"].default,
    max_pages: int = Settings.model_fields["max_pages"].default,
    golden: Sequence[PackedLine] | None = None,
) -> Verdict:
    """Judge a version by its exported graphs against what is served now, and store the verdict.

    Read are live corrections that are held out, those that the version or its ancestors learned
    from, and the golden lines. A version that is itself champion, or the first, has no opponent.
    `max_pixels` and `max_pages` must be serving's, so that crops are cut from the same pixels.
    """
    candidate = store.versions.get(model, version)
    held, learned = _corrections(store, candidate)
    bench = Bench(store, blobs, candidate, cache, max_pixels, max_pages)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        parts = {
            "holdout": bench.corrected(pool, held[:MOST_LINES]),
            "trained": bench.corrected(pool, learned[:MOST_LINES]),
            "golden": bench.packed(pool, linepack.load("golden") if golden is None else golden),
        }
    verdict = gate.judge(
        holdout=[r.score for r in parts["holdout"]],
        trained=[r.score for r in parts["trained"]],
        golden=[r.score for r in parts["golden"]],
        latency=_latency([r for part in parts.values() for r in part]),
        candidate=version,
        champion=bench.opponent or "",
        judged_at=time.time(),
    )
    verdict = replace(verdict, reasons=(*verdict.reasons, *_left_out(held, learned)))
    store.versions.put_verdict(model, version, verdict)
    return verdict


def served_precision(store: Store, model: str, version: str) -> Precision | None:
    """What the gate allows to be served of a version; None (the bundle's default) where unjudged."""
    verdict = store.versions.verdict(model, version)
    return verdict.precision if verdict else None


@dataclass(frozen=True)
class Reading:
    """One line read by everybody; the CPU milliseconds that each took."""

    score: LineScore
    ms: dict[str, float]


class Bench:
    """Candidate (in each of its precisions) and champion, side by side."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        candidate: ModelVersion,
        cache: Path,
        max_pixels: int,
        max_pages: int,
    ) -> None:
        self._blobs, self._max_pixels, self._max_pages = blobs, max_pixels, max_pages
        folder = fetch(candidate.bundle, blobs, cache)
        full = LineReader(folder, Precision.FP32)
        self._readers = {"fp32": full}
        if Precision.INT8 in full.manifest.graphs:
            self._readers["int8"] = LineReader(folder, Precision.INT8)
        self.opponent = _opponent(store, candidate)
        if self.opponent:
            served = store.versions.get(candidate.model, self.opponent)
            precision = served_precision(store, served.model, served.version)
            self._readers["champion"] = LineReader(fetch(served.bundle, blobs, cache), precision)
        for reader in self._readers.values():
            reader.warm()

    def corrected(self, pool: ThreadPoolExecutor, corrections: Sequence[Correction]) -> list[Reading]:
        """Read the corrected lines; each image is fetched and decoded once."""
        by_image = sorted(corrections, key=lambda c: c.image)
        images = [(image, list(here)) for image, here in groupby(by_image, key=lambda c: c.image)]
        return [r for readings in pool.map(self._image, images) for r in readings]

    def packed(self, pool: ThreadPoolExecutor, lines: Sequence[PackedLine]) -> list[Reading]:
        return list(pool.map(self._packed, range(len(lines)), lines))

    def _image(self, image: tuple[str, Sequence[Correction]]) -> list[Reading]:
        pages = open_pages(self._blobs.get(image[0]), None, self._max_pixels, self._max_pages)
        return [self._read(c.id, c.group, crop_line(pages[c.page], c.polygon), c.text) for c in image[1]]

    def _packed(self, number: int, line: PackedLine) -> Reading:
        return self._read(f"golden-{number}", "", line.image, line.text)

    def _read(self, key: str, group: str, line: Pixels, text: str) -> Reading:
        errors, ms = {}, {}
        names = list(self._readers)
        turn = crc32(key.encode()) % len(names)  # nobody always comes first, when the caches are cold
        for name in names[turn:] + names[:turn]:
            began = time.thread_time()
            read = self._readers[name].read(line).text
            ms[name] = 1000 * (time.thread_time() - began)
            errors[name] = metrics.distance(text, read)
        characters = len(metrics.characters(text))
        score = LineScore(key, characters, errors.get("int8"), errors["fp32"], errors.get("champion"), group)
        return Reading(score, ms)


def _opponent(store: Store, candidate: ModelVersion) -> str | None:
    champion = store.serving.get(candidate.model).champion
    return None if champion == candidate.version else champion


def _corrections(store: Store, candidate: ModelVersion) -> tuple[list[Correction], list[Correction]]:
    """(held out, learned from) of the live corrections, newest first."""
    known = _learned_ids(store, candidate)
    newest = sorted(store.corrections.live(Task.OCR), key=lambda c: c.id, reverse=True)
    held = [c for c in newest if side_of(c.group) is Split.HOLDOUT]
    return held, [c for c in newest if c.id in known]


def _learned_ids(store: Store, candidate: ModelVersion) -> set[str]:
    """The corrections in the training part of a version's snapshot and its ancestors'."""
    ids: set[str] = set()
    at: ModelVersion | None = candidate
    while at is not None:
        if at.snapshot is not None:
            ids |= {m.correction for m in store.snapshots.get(at.snapshot).side(Split.TRAIN)}
        at = store.versions.get(at.model, at.parent) if at.parent else None
    return ids


def _latency(readings: Iterable[Reading]) -> Latency:
    taken = [r.ms for r in readings]
    return Latency(
        **{name: tuple(ms[name] for ms in taken if name in ms) for name in ("int8", "fp32", "champion")}
    )


def _left_out(held: Sequence[Correction], learned: Sequence[Correction]) -> list[str]:
    told = (("held-out corrected", len(held)), ("trained", len(learned)))
    return [
        f"Of {count} {name} lines the newest {MOST_LINES} were read."
        for name, count in told
        if count > MOST_LINES
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: passed, 1: judged but not passed, 2: could not be judged."""
    parser = argparse.ArgumentParser(prog="python -m redpencil.trial", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("version")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    asked, settings = parser.parse_args(argv), Settings()
    try:
        with Store.open(settings.database) as store:
            blobs, cache = Blobs.open(settings.blobs), settings.home / "bundles"
            verdict = hold(
                store,
                blobs,
                asked.model,
                asked.version,
                cache,
                max_pixels=settings.max_pixels,
                max_pages=settings.max_pages,
            )
    except RedpencilError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(asdict(verdict), ensure_ascii=False) if asked.json else gate.report_markdown(verdict))
    return 0 if verdict.outcome is Outcome.PASSED else 1


if __name__ == "__main__":
    sys.exit(main())
