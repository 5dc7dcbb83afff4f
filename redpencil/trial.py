"""A candidate reads what the champion reads, and the gate judges.

`python -m redpencil.trial MODEL VERSION` prints the verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from redpencil import gate, linepack, snapshot
from redpencil.bench import Bench, Place, Reading, places, served_precision
from redpencil.blobs import Blobs
from redpencil.caption_metrics import caption_scores, cider_each, typical
from redpencil.errors import RedpencilError
from redpencil.gate import Latency, LineScore
from redpencil.linepack import PackedLine
from redpencil.measure import MEASURES, Measure
from redpencil.metrics import grapheme_cer
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.store.places import place
from redpencil.types import ModelVersion, Outcome, Precision, Split, Task, Verdict
from redpencil.worth import BEST_CIDER, Worth

__all__ = ["hold", "served_precision"]

MOST_LINES = 2000
"""Per slice, the newest count: reading more would take longer than it could tell."""
MOST_IMAGES = 500
"""The same for captions, whose every word runs the decoder: some 5,000 words tell enough."""


def hold(
    store: Store,
    blobs: Blobs,
    settings: Settings,
    model: str,
    version: str,
    golden: Sequence[PackedLine] | None = None,
) -> Verdict:
    """Judge a version by its exported graphs against what is served now, and store the verdict.

    Read are live corrections that are held out, those that the version or its ancestors learned
    from, and the golden lines. A version that is itself champion, or the first, has no opponent.

    Of captions an image is read once and counts once, with all its references. Golden images there
    are none; what the champion had learned from stands in for them.
    """
    candidate = store.versions.get(model, version)
    task, bench = settings.task_of(model), Bench(store, blobs, settings, candidate)
    asked = Questions.of(store, candidate, task, bench.opponent)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        holdout, trained, base = (bench.corrected(pool, part) for part in asked.newest())
        if asked.measure.golden:
            base = bench.packed(pool, linepack.load("golden") if golden is None else golden)
    verdict = gate.judge(
        holdout=[r.score for r in holdout],
        trained=[r.score for r in trained],
        golden=[r.score for r in base],
        latency=_latency([*holdout, *trained, *base]),
        measure=asked.measure,
        worth=_worth(holdout, "" if bench.opponent else _parrot(store)) if task is Task.CAPTION else None,
        start=_start(store, model, base) if asked.measure.golden else None,
        fresh=asked.fresh,
        candidate=version,
        champion=bench.opponent or "",
        judged_at=time.time(),
    )
    parts = {"holdout": holdout, "trained": trained, asked.measure.base_key: base}
    name, how = ("captions", _captions) if task is Task.CAPTION else ("graphemes", _graphemes)
    verdict = replace(
        verdict,
        reasons=(*verdict.reasons, *asked.left_out()),
        items=asked.items(verdict.items),
        scores=verdict.scores | {name: _said(parts, verdict.precision, how)},
    )
    store.versions.put_verdict(model, version, verdict)
    return verdict


@dataclass(frozen=True)
class Questions:
    """What a trial asks: the places held out, those learned from, and those of the base domain.

    `fresh` are the keys of places that are new to the champion: held out, and not in its own snapshot, or
    learned from, and not by it.
    """

    measure: Measure
    held: Sequence[Place]
    learned: Sequence[Place]
    base: Sequence[Place]
    fresh: frozenset[str]

    @classmethod
    def of(cls, store: Store, candidate: ModelVersion, task: Task, champion: str | None) -> Questions:
        """Newest first. Where there is no golden set, what the champion knew as well is the base."""
        measure, live = MEASURES[task], places(store.corrections.live(task))
        held = [p for p in live if snapshot.side_of(p.group) is Split.HOLDOUT]
        served = store.versions.get(candidate.model, champion) if champion else None
        known, before = snapshot.learned(store, candidate), snapshot.learned(store, served)
        learned = [p for p in live if known & set(p.corrections)]
        new = [p for p in learned if known & set(p.corrections) - before]
        old = [p for p in learned if not known & set(p.corrections) - before]
        taken = store.snapshots.get(served.snapshot).members if served and served.snapshot else ()
        met = {place(m) for m in taken}
        fresh = frozenset(p.key for p in (*(p for p in held if place(p) not in met), *new))
        return cls(measure, held, *((learned, []) if measure.golden else (new, old)), fresh)

    @property
    def most(self) -> int:
        return MOST_LINES if self.measure.golden else MOST_IMAGES

    def newest(self) -> Iterable[Sequence[Place]]:
        return (part[: self.most] for part in (self.held, self.learned, self.base))

    def left_out(self) -> list[str]:
        things = f"{self.measure.thing}s"
        told = (
            (self.measure.held, self.held),
            (f"trained {things}", self.learned),
            (self.measure.base, self.base),
        )
        return [
            f"Of {len(part)} {words} the newest {self.most} were read."
            for words, part in told
            if len(part) > self.most
        ]

    def items(self, fates: Mapping[str, str]) -> dict[str, str]:
        """The fate of a place, told of each of its corrections."""
        asked = {p.key: p.corrections for p in (*self.held, *self.learned, *self.base)}
        return {id: fate for key, fate in fates.items() for id in asked[key]}


def _start(store: Store, model: str, golden: Sequence[Reading]) -> float | None:
    """How these golden lines were read by what was served first, or worse by what a person let in since."""
    served = store.ledger.deployments(model)
    undone = {e.from_version for e in served if e.action == "rollback"}
    chosen = [e for e in served[1:] if e.action == "override" and e.to_version not in undone]
    verdicts = [store.versions.verdict(model, e.to_version or "") for e in (*served[:1], *chosen)]
    scores = [verdict.scores.get("golden", {}) for verdict in verdicts if verdict]
    chars = sum(r.score.chars for r in golden)
    return max((s["cer"]["candidate"] for s in scores if s.get("chars") == chars), default=None)


def _parrot(store: Store) -> str:
    """The most typical of the captions that may be trained on, else of all; empty where there is none."""
    live = places(store.corrections.live(Task.CAPTION))
    taught = [p.texts for p in live if snapshot.side_of(p.group) is Split.TRAIN]
    return typical(taught or [p.texts for p in live]) if live else ""


def _worth(holdout: Sequence[Reading], parrot: str) -> Worth | None:
    """What each caption lacks of the best CIDEr-D; a parrot takes the champion's place."""
    if not holdout:
        return None
    said = {name: [r.said[name] for r in holdout] for name in holdout[0].said}
    if parrot:
        said["champion"] = [parrot] * len(holdout)
    lacks = {name: _lacks([r.texts for r in holdout], texts) for name, texts in said.items()}
    nobody: list[int | None] = [None] * len(holdout)
    readers = zip(lacks.get("int8", nobody), lacks["fp32"], lacks.get("champion", nobody), strict=True)
    keys = [(r.score.key, r.score.group) for r in holdout]
    lines = (
        LineScore(key, Worth.UNIT, int8, fp32, champion, group)
        for (key, group), (int8, fp32, champion) in zip(keys, readers, strict=True)
    )
    return Worth(tuple(lines), parrot)


def _lacks(references: Sequence[Sequence[str]], texts: Sequence[str]) -> list[int]:
    return [round(Worth.UNIT * (BEST_CIDER - score)) for score in cider_each(references, texts)]


def _said(
    parts: Mapping[str, Sequence[Reading]],
    precision: Precision,
    worth: Callable[[Sequence[Sequence[str]], Sequence[str]], dict[str, float]],
) -> dict[str, dict[str, dict[str, float]]]:
    """What the texts of candidate and champion are worth against their references, per slice that has any."""
    names = {"candidate": precision.value, "champion": "champion"}
    return {
        part: {
            who: worth([r.texts for r in read], [r.said[name] for r in read])
            for who, name in names.items()
            if name in read[0].said
        }
        for part, read in parts.items()
        if read
    }


def _captions(references: Sequence[Sequence[str]], said: Sequence[str]) -> dict[str, float]:
    return asdict(caption_scores(references, said))


def _graphemes(references: Sequence[Sequence[str]], said: Sequence[str]) -> dict[str, float]:
    return {"cer": grapheme_cer(zip((texts[0] for texts in references), said, strict=True))}


def _latency(readings: Iterable[Reading]) -> Latency:
    taken = [r.ms for r in readings]
    return Latency(
        **{name: tuple(ms[name] for ms in taken if name in ms) for name in ("int8", "fp32", "champion")}
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: passed, 3: judged but not passed, 2: could not be judged, 1: broken down."""
    parser = argparse.ArgumentParser(prog="python -m redpencil.trial", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("version")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    asked, settings = parser.parse_args(argv), Settings()
    try:
        with Store.open(settings.database) as store:
            verdict = hold(store, Blobs.open(settings.blobs), settings, asked.model, asked.version)
    except RedpencilError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(asdict(verdict), ensure_ascii=False) if asked.json else gate.report_markdown(verdict))
    return 0 if verdict.outcome is Outcome.PASSED else 3


if __name__ == "__main__":
    sys.exit(main())
