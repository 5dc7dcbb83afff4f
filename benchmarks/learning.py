"""What a recipe learns from corrected lines, and what it forgets; in process, without Ray.

    python -m benchmarks.learning --set fraktur_archiscribe --corrections 100 --seed 0

The corrected lines come from documents of the train side, the error rates from documents that were
never trained on, of this set and of others. Error rates are of the FP32 model.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from redpencil import linepack
from redpencil.metrics import cer
from redpencil.snapshot import side_of
from redpencil.types import Split
from training import data, recipe
from training.data import Line
from training.frozen import Frozen
from training.recipe import Hyper, LineModel
from training.schedule import rate

OTHERS = ("oldbooks_english", "sroie_receipts", "funsd_forms")
UPPER = ("sroie_receipts",)  # its labels are in capitals, whatever the picture shows


@dataclass(frozen=True)
class Unseen:
    """Lines that nobody trains on, with their features."""

    name: str
    lines: list[Line]
    features: list[Tensor]

    def cer(self, model: LineModel) -> float:
        found = [r.text for r in data.read(model, self.features)]
        fold: Callable[[str], str] = str.upper if self.name in UPPER else str
        return cer([(fold(line.text), fold(text)) for line, text in zip(self.lines, found, strict=True)])


def lines_of(folder: Path, side: Split, count: int, seed: int) -> list[Line]:
    """`count` lines, drawn by seed, from the documents of one side."""
    rows = [row.split("\t") for row in (folder / "lines.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    rows = [row for row in rows if side_of(row[1]) is side]
    chosen = sorted(np.random.default_rng(seed).permutation(len(rows))[:count])
    return [_line(folder, *rows[i]) for i in chosen]


def _line(folder: Path, file: str, document: str, text: str) -> Line:
    image = cv2.imread(str(folder / file), cv2.IMREAD_COLOR)
    return Line(cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8), text, file, document)


def tests(root: Path, own: str, count: int, model: LineModel) -> list[Unseen]:
    """Unseen documents of the own set, of other sets, and the golden pack."""
    sets = {n: lines_of(root / n, Split.HOLDOUT, count, 1) for n in (own, *(o for o in OTHERS if o != own))}
    sets["golden"] = [Line(line.image, line.text) for line in linepack.load("golden")]
    frozen = Frozen(model)
    return [Unseen(n, x, frozen.map(lambda line: line.image, x)) for n, x in sets.items()]


def learn(model: LineModel, corrected: Sequence[Line], hyper: Hyper) -> list[float]:
    """Train as the loop does, without validation; returns the mean loss of every epoch."""
    rehearsed = data.rehearsal(hyper) if hyper.replay else []
    batches = data.Batches(model, corrected, rehearsed, hyper)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, hyper.lr, weight_decay=hyper.weight_decay, fused=True)
    epochs = -(-hyper.total_steps(len(corrected)) // hyper.report_every)
    losses = []
    model.train()
    for step, batch in enumerate(b for epoch in range(epochs) for b in batches.epoch(epoch)):
        for group in optimiser.param_groups:
            group["lr"] = hyper.lr * rate(step, epochs * hyper.report_every, hyper.warmup)
        with torch.autocast("cpu", torch.bfloat16, enabled=hyper.precision == "bf16"):
            logits, lengths = model(batch.features, batch.widths)
        targets = (batch.targets, batch.target_lengths)
        loss = model.loss(logits, *targets, lengths, hyper.smoothing, batch.rehearsed)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, hyper.clip)
        optimiser.step()
        losses.append(float(loss.detach()))
    model.eval()
    return [float(np.mean(part)) for part in np.split(np.array(losses), epochs)]


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    chosen = recipe.find(args.recipe)
    hyper = chosen.defaults.updated(dict(pair.split("=", 1) for pair in args.set_hyper) | {"seed": args.seed})
    corrected = lines_of(args.data / args.set, Split.TRAIN, args.corrections, args.seed)
    torch.manual_seed(args.seed)
    model = chosen.build(None, [line.text for line in corrected]).eval()
    unseen = tests(args.data, args.set, args.test_lines, model)
    if chosen.starts_from == "scratch":
        unseen = unseen[:1]
    before = [test.cer(model) for test in unseen]
    began = time.process_time()
    losses = learn(model, corrected, hyper)
    spent = time.process_time() - began
    say = sys.stdout.write
    say(f"{args.recipe}, {len(corrected)} lines of {args.set}, seed {args.seed}: {spent:.0f} CPU-seconds\n")
    say(
        f"loss per epoch: {' '.join(f'{x:.3f}' for x in losses)}\n\n| unseen | lines | CER before | after |\n"
    )
    say("|---|---|---|---|\n")
    for test, old in zip(unseen, before, strict=True):
        say(f"| {test.name} | {len(test.lines)} | {old:.2%} | {test.cer(model):.2%} |\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__)
    folder = Path(os.environ.get("REDPENCIL_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=folder, help="folder of the line sets")
    parser.add_argument("--set", default="fraktur_archiscribe", help="the set that is corrected")
    parser.add_argument("--corrections", type=int, default=100)
    parser.add_argument("--recipe", default="ppocr")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--test-lines", type=int, default=200, help="at most so many of every set")
    parser.add_argument("set_hyper", nargs="*", metavar="NAME=VALUE", help="training parameters")
    return parser.parse_args()


if __name__ == "__main__":
    main()
