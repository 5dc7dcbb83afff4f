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
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
from pyarrow.fs import LocalFileSystem

from redpencil import datasets
from redpencil.caption_metrics import caption_scores
from redpencil.datasets import Sample
from redpencil.formats import open_pages
from redpencil.reader import open_reader
from redpencil.types import Precision
from training import recipe
from training.crops import Line
from training.hyper import Hyper
from training.job import BEST, Lines, load, restore
from training.learner import Learner
from training.loop import Loop
from training.place import Alone

PIXELS = 60_000_000


def lines(samples: Sequence[Sample]) -> list[Line]:
    found = []
    for s in samples:
        image = open_pages(s.image.read_bytes(), None, PIXELS, 1)[0]
        found += [
            Line(image, text, f"{s.image.stem}#{n}", "", s.image.stem) for n, text in enumerate(s.texts)
        ]
    return found


@dataclass
class Told:
    """Prints each epoch, and ends the run when its CPU seconds are spent; a `training.loop.Watcher`."""

    budget_s: float = inf

    def step(self, progress: dict[str, Any]) -> bool:
        return time.process_time() > self.budget_s

    def epoch(self, history: list[dict[str, Any]]) -> None:
        print(json.dumps(history[-1] | {"cpu_s": round(time.process_time())}), flush=True)


def learn(model: Learner, given: Lines, hyper: Hyper, folder: Path, told: Told) -> list[dict[str, Any]]:
    """Train as a run does, from the folder's latest checkpoint on, to the best epoch; returns the history."""
    place = Alone(LocalFileSystem(), str(folder))
    ended = Loop(hyper, model, given, told, place).run()
    if ended.how == "failed":
        raise RuntimeError(ended.why)
    restore(model, load(folder / BEST))
    return ended.history


def begun(asked: argparse.Namespace) -> tuple[recipe.Recipe, list[Sample], dict[str, Any], Hyper]:
    """The family, the data set, and the parameters as given and as they hold; makes the folder of results."""
    asked.out.mkdir(parents=True, exist_ok=True)
    chosen, params = recipe.find(asked.recipe), recipe.given(asked.set) | {"seed": asked.seed}
    return chosen, list(datasets.read(asked.data).samples), params, chosen.defaults.updated(params)


def exported(model: Learner, asked: argparse.Namespace, shown: Sequence[Line]) -> Path:
    """The model's bundle in the folder of results, instead of an earlier one."""
    folder: Path = asked.out / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model.to_bundle(folder, shown, {"recipe": asked.recipe})
    return folder


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
    chosen, samples, params, hyper = begun(asked)
    train, val, test = ([s for s in samples if s.split == part] for part in ("train", "val", "test"))
    given = Lines(lines(train), lines(val), [])
    torch.manual_seed(asked.seed)
    model = chosen.build(None, [line.text for line in given.learn], hyper)
    history = learn(model, given, hyper, asked.out / "checkpoints", Told(asked.cpu_seconds))
    folder = exported(model, asked, given.learn)
    row = {
        "data": asked.data.name,
        "recipe": asked.recipe,
        "params": params,
        "cpu_s": round(time.process_time()),
    }
    row |= judged(folder, test, {t for s in train for t in s.texts})
    (asked.out / "result.json").write_text(json.dumps(row | {"history": history}, indent=1))
    print(json.dumps(row, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
