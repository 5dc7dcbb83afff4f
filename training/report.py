"""What a run leaves to look at: a learning curve, lines read before and after, and the numbers."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from redpencil.blobs import Blobs
from redpencil.metrics import distance
from redpencil.pixels import Pixels
from redpencil.reader import open_reader
from redpencil.types import Member, Split
from training import crops
from training.job import Ended, Job
from training.track import Page

EACH = 12
"""Lines shown of each side."""
SHOWN_PX, WIDEST_PX = 48, 4000
STYLE = """
body {font: 14px sans-serif} img {max-width: 100%} hr {border: 0; border-top: 1px solid #ddd}
td {padding: 2px 8px; vertical-align: top} td:first-child {color: #777}
.wrong {color: #b00020} .right {color: #1b7f3b}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One corrected line as the parent and as the new version read it; `before` None: no parent."""

    image: Pixels
    correction: str
    split: str
    truth: str
    before: str | None
    after: str

    def to_dict(self) -> dict[str, Any]:
        shown = ("correction", "split", "truth", "before", "after")
        return {name: getattr(self, name) for name in shown}


def samples(job: Job, blobs: Blobs, before: Path | None, after: Path) -> list[Sample]:
    """Lines of both sides, read by the bundles in two folders."""
    members = [m for split in (Split.HOLDOUT, Split.TRAIN) for m in some(job.snapshot.side(split))]
    lines = crops.lines(members, blobs, job.settings.max_pixels, job.settings.max_pages)
    vlm = job.settings.vlm_url
    old, new = open_reader(before, vlm=vlm) if before else None, open_reader(after, vlm=vlm)
    return [
        Sample(
            image=line.image,
            correction=m.correction,
            split=m.split.value,
            truth=m.text,
            before=old.read(line.image).text if old else None,
            after=new.read(line.image).text,
        )
        for m, line in zip(members, lines, strict=True)
    ]


def some(members: Sequence[Member]) -> list[Member]:
    """A few of them, the same ones whenever they are among the members."""
    return sorted(members, key=lambda m: hashlib.sha256(m.correction.encode()).digest())[:EACH]


def table(shown: Sequence[Sample]) -> str:
    """The samples as a page that needs no other file, narrow enough for MLflow's."""
    rows = "\n".join(_row(s) for s in shown)
    return f"""<!doctype html><meta charset="utf-8"><title>Before and after</title><style>{STYLE}</style>
<h1>Before and after</h1><p>Holdout lines were never trained on.</p>
{rows}
"""


def _row(s: Sample) -> str:
    picture = f'<img src="data:image/jpeg;base64,{base64.b64encode(small(s.image)).decode()}">'
    texts = f"<tr><td>truth<td>{escape(s.truth)}<tr><td>before{_reading(s.truth, s.before)}"
    texts += f"<tr><td>after{_reading(s.truth, s.after)}<tr><td>side<td>{s.split}, {s.correction}"
    return f"<hr>{picture}<table>{texts}</table>"


def small(line: Pixels) -> bytes:
    """A line as a JPEG of a few KB, at the height at which it is shown."""
    width = min(WIDEST_PX, max(1, round(line.shape[1] * SHOWN_PX / line.shape[0])))
    shown = cv2.resize(line, (width, SHOWN_PX), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))[1].tobytes()


def _reading(truth: str, text: str | None) -> str:
    if text is None:
        return "<td>-"
    wrong = distance(truth, text)
    told = f" ({wrong} wrong)" if wrong else ""
    return f'<td class="{"wrong" if wrong else "right"}">{escape(text)}{told}'


def curve(history: Sequence[Mapping[str, Any]]) -> bytes:
    """Losses and measures over the steps, as a PNG."""
    drawn = panels(history)
    figure = Figure(figsize=(4 * len(drawn), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    every = figure.subplots(1, len(drawn), squeeze=False)[0]
    for axes, (title, curves) in zip(every, drawn.items(), strict=True):
        for label, points in curves.items():
            axes.plot(*zip(*points, strict=True), marker=".", label=label)
        axes.set(title=title, xlabel="step", ylim=(0, None))
        axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()


def panels(history: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """What a learning curve shows: by title, and in each by label, the values by step."""
    kind, where = ("heart", "learned") if any("heart_loss" in r for r in history) else ("val", "validation")
    wanted = {
        "loss": {"loss": "training", f"{kind}_loss": where},
        f"error rate on {where} lines": {f"{kind}_cer": "characters", f"{kind}_wer": "words"},
        f"likeness to {where} texts": {f"{kind}_cider_d": "CIDEr-D", f"{kind}_bleu4": "BLEU-4"},
    }
    found = {
        title: {label: points for key, label in keys.items() if (points := _points(history, key))}
        for title, keys in wanted.items()
    }
    return {title: curves for title, curves in found.items() if curves}


def _points(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(r["step"], r[key]) for r in history if key in r]


def publish(
    page: Page, ended: Ended, shown: Sequence[Sample], bundle: str, seconds: Mapping[str, float]
) -> None:
    """Put history, curve, table and numbers on the run's page in MLflow."""
    page.history(ended.history)
    page.tags({f"lines.{k}": str(v) for k, v in ended.counts.items()})
    page.tags({f"machine.{k}": v for k, v in ended.machine.items()})
    page.file("report/learning_curve.png", curve(ended.history))
    page.file("report/before_after.html", table(shown))
    page.file("report/history.json", json.dumps(ended.history, indent=2))
    told = summary(page.job, ended, shown) | {"bundle": bundle, "seconds": dict(seconds)}
    page.file("report/report.json", json.dumps(told, indent=2, ensure_ascii=False))


def summary(job: Job, ended: Ended, shown: Sequence[Sample]) -> dict[str, Any]:
    """The run in numbers."""
    return {
        "run": job.run.id,
        "model": job.run.model,
        "recipe": job.run.recipe,
        "hyper": job.suited.to_dict(),
        "snapshot": job.snapshot.id,
        "parent": job.run.params.get("parent"),
        "lines": ended.counts,
        "holdout": len(job.snapshot.side(Split.HOLDOUT)),
        "start": ended.history[0],
        "best": ended.best,
        "epochs": ended.history[-1]["epoch"],
        "machine": ended.machine,
        "samples": [s.to_dict() for s in shown],
    }
