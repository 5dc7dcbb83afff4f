"""A captioner whose team changes its vocabulary: what are 100 corrections worth, and what do they cost?

    python -m benchmarks.renamed --data ../shared/data/ucm_captions --bundle DIR/bundle --out OUT

The bundle is a champion that learned the set's train part (benchmarks/captions.py). From now on some
things are called otherwise. One caption of each of 100 train images that show them is corrected to
say so; the others stay as they are. The run learns the new texts and as many of the old ones as any
run does (`training.job.Job.again`). Judged are test and validation images with a thing that is
called otherwise, against their captions in the new words, and all the others.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.captions import PIXELS, Told, begun, exported, learn, lines
from redpencil.bundle import Manifest
from redpencil.caption_metrics import caption_scores
from redpencil.datasets import Sample
from redpencil.formats import open_pages
from redpencil.reader import open_reader
from training.job import Lines

WORDS = {
    "airplane": "jet", "airplanes": "jets", "airport": "airfield",
    "harbor": "marina", "boat": "yacht", "boats": "yachts", "docked": "moored",
    "tennis": "racquet", "court": "ground", "courts": "grounds",
    "baseball": "softball", "diamond": "field", "diamonds": "fields",
}  # fmt: skip


def renamed(text: str) -> str:
    """A caption in the new words."""
    return re.sub(r"[A-Za-z]+", lambda found: WORDS.get(found[0].lower(), found[0]), text)


def changes(sample: Sample) -> bool:
    """Whether the image shows a thing that is called otherwise now, as most of its captions say."""
    return 2 * sum(renamed(text) != text for text in sample.texts) > len(sample.texts)


def corrected(train: Sequence[Sample], count: int, earlier: int, seed: int) -> Lines:
    """One caption of each of so many images in the new words, and a part of all others as they were."""
    chance = random.Random(seed)
    said = [line for line in lines(train) if renamed(line.text) != line.text]
    chance.shuffle(said)
    chosen = list({line.place: line for line in said}.values())[:count]
    known = {line.key for line in chosen}
    rest = [line for line in lines(train) if line.key not in known]
    new = [replace(line, text=renamed(line.text)) for line in chosen]
    return Lines(new, [], again=chance.sample(rest, min(len(rest), max(earlier, len(new)))))


def judged(folder: Path, held: Sequence[Sample]) -> dict[str, Any]:
    """What the bundle as served says of the held images, in the new words and elsewhere."""
    reader, told = open_reader(folder), {"precision": str(Manifest.load(folder).precision)}
    for part, wanted in (("called otherwise", True), ("elsewhere", False)):
        samples = [s for s in held if changes(s) is wanted]
        said = [reader.read(open_pages(s.image.read_bytes(), None, PIXELS, 1)[0]).text for s in samples]
        texts = [tuple(map(renamed, s.texts)) if wanted else s.texts for s in samples]
        scores = {k: round(v, 4) for k, v in asdict(caption_scores(texts, said)).items()}
        told[part] = {"images": len(samples), **scores, "examples": said[:4]}
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--recipe", default="catr")
    parser.add_argument("--corrections", type=int, default=100)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    chosen, samples, params, hyper = begun(asked)
    train, held = ([s for s in samples if (s.split == "train") is part] for part in (True, False))
    row: dict[str, Any] = {"params": params, "before": judged(asked.bundle, held)}
    given = corrected(train, asked.corrections, hyper.earlier, asked.seed)
    torch.manual_seed(asked.seed)
    taught = [*given.again, *given.learn]
    model = chosen.build(asked.bundle, [line.text for line in taught], hyper)
    row["history"] = learn(model, given, hyper, asked.out / "checkpoints", Told())
    row |= {"texts": given.counts(), "cpu_s": round(time.process_time())}
    folder = exported(model, asked, taught)
    model.keep_before(folder, asked.bundle, given.learn, given.again)
    row["after"] = judged(folder, held)
    (asked.out / "result.json").write_text(json.dumps(row, indent=1, ensure_ascii=False))
    print(json.dumps({k: v for k, v in row.items() if k != "history"}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
