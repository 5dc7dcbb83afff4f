"""A captioner from scratch on one data set: what is it worth on images that it has not seen?

    python -m benchmarks.captions --data ../shared/data/ucm_captions --recipe catr --out DIR

Trains on the set's train part within a budget of CPU seconds, chooses the best epoch by the
validation part, exports, and reads the test part with the exported bundle, in FP32 and as it would
be served. Scores are told for all test images, and for those none of whose captions stands word
for word in the train part. A run that was stopped goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from typing import Any

import torch

from redpencil import datasets
from redpencil.caption_metrics import caption_scores
from redpencil.datasets import Sample
from redpencil.formats import open_pages
from redpencil.reader import open_reader
from redpencil.types import Precision
from training import recipe
from training.data import Line
from training.device import autocast
from training.job import Lines
from training.learner import Learner
from training.recipe import Hyper
from training.schedule import Patience, rate

PIXELS = 60_000_000


def lines(samples: Sequence[Sample]) -> list[Line]:
    found = []
    for s in samples:
        image = open_pages(s.image.read_bytes(), None, PIXELS, 1)[0]
        found += [
            Line(image, text, f"{s.image.stem}#{n}", "", s.image.stem) for n, text in enumerate(s.texts)
        ]
    return found


class School:
    """Trains in this process, an epoch at a time, with all that is needed to go on in one file."""

    def __init__(self, model: Learner, given: Lines, hyper: Hyper, budget_s: float, kept: Path) -> None:
        every = hyper.report_every or max(1, round(hyper.pass_steps(len(given.learn))))
        self.model, self.hyper, self.budget_s, self.kept = (
            model,
            replace(hyper, report_every=every),
            budget_s,
            kept,
        )
        self.lessons = model.lessons(given, self.hyper)
        self.groups = [{**g, "full": g["lr"]} for g in model.parameter_groups(self.hyper)]
        self.optimiser = torch.optim.AdamW(self.groups, weight_decay=hyper.weight_decay, fused=True)
        self.epochs = -(-self.hyper.total_steps(len(given.learn)) // every)
        self.history: list[dict[str, Any]] = []
        self.best: tuple[float, dict[str, Any]] = (inf, {})
        if kept.exists():
            state = torch.load(kept, weights_only=False)
            model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.history, self.best = state["history"], state["best"]

    def run(self) -> None:
        while len(self.history) < self.epochs and self.spent < self.budget_s:
            self.epoch(len(self.history))
        self.model.load_state_dict(self.best[1])

    @property
    def spent(self) -> float:
        return sum(row["cpu_s"] for row in self.history)

    def epoch(self, number: int) -> None:
        began, losses = time.process_time(), []
        torch.manual_seed(number)
        self.model.train()
        for step, batch in enumerate(self.lessons.epoch(number), number * self.hyper.report_every):
            share = rate(self.hyper, step, self.epochs * self.hyper.report_every, Patience(0))
            for group in self.optimiser.param_groups:
                group["lr"] = group["full"] * share
            with autocast(torch.device("cpu"), self.hyper):
                answer = self.model(*batch.inputs)
            loss = self.lessons.loss(answer, batch)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for g in self.groups for p in g["params"]], self.hyper.clip)
            self.optimiser.step()
            losses.append(float(loss.detach()))
        marks = self.lessons.mark()
        assert marks is not None
        row = {"epoch": number + 1, "loss": sum(losses) / len(losses), **asdict(marks)}
        self.history.append(row | {"cpu_s": time.process_time() - began})
        if marks.score < self.best[0]:
            self.best = (marks.score, {n: v.clone() for n, v in self.model.state_dict().items()})
        self.keep()
        print(json.dumps(self.history[-1]), flush=True)

    def keep(self) -> None:
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        torch.save(state | {"history": self.history, "best": self.best}, self.kept.with_suffix(".part"))
        self.kept.with_suffix(".part").rename(self.kept)


def judged(folder: Path, samples: Sequence[Sample], known: set[str]) -> dict[str, Any]:
    """Scores of every precision, on all samples and on those without a known caption."""
    told: dict[str, Any] = {}
    new = [i for i, s in enumerate(samples) if not known.intersection(s.texts)]
    for precision in Precision:
        if not (folder / f"decoder.{precision.value}.onnx").exists():
            continue
        reader = open_reader(folder, precision)
        began = time.process_time()
        said = [reader.read(open_pages(s.image.read_bytes(), None, PIXELS, 1)[0]).text for s in samples]
        cpu_s = (time.process_time() - began) / len(samples)
        parts = {"all": range(len(samples)), "no caption known": new}
        scores = {n: _scores(samples, said, part) for n, part in parts.items() if len(part)}
        told[precision.value] = {"cpu_s_per_image": round(cpu_s, 4), **scores}
        told.setdefault(
            "examples", [(s.image.name, t, s.texts[0]) for s, t in list(zip(samples, said, strict=True))[:8]]
        )
    return told


def _scores(samples: Sequence[Sample], said: Sequence[str], part: Sequence[int]) -> dict[str, float]:
    scores = asdict(caption_scores([samples[i].texts for i in part], [said[i] for i in part]))
    return {"images": len(part)} | {k: round(v, 4) for k, v in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="catr")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--cpu-seconds", type=float, default=5400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    chosen, samples = recipe.find(asked.recipe), datasets.read(asked.data).samples
    params = dict(p.split("=", 1) for p in asked.set) | {"seed": asked.seed}
    hyper = chosen.defaults.updated(params)
    train, val, test = ([s for s in samples if s.split == part] for part in ("train", "val", "test"))
    given = Lines(lines(train), lines(val), [])
    torch.manual_seed(asked.seed)
    model = chosen.build(None, [line.text for line in given.learn], hyper)
    school = School(model, given, hyper, asked.cpu_seconds, asked.out / "school.pt")
    school.run()
    folder = asked.out / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model.to_bundle(folder, given.learn, {"recipe": asked.recipe})
    row = {"data": asked.data.name, "recipe": asked.recipe, "params": params, "cpu_s": round(school.spent)}
    row |= judged(folder, test, {t for s in train for t in s.texts})
    (asked.out / "result.json").write_text(json.dumps(row | {"history": school.history}, indent=1))
    print(json.dumps(row, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
