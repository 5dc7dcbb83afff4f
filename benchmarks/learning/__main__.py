"""What corrections are worth: gain on unseen documents of a set, and what other sets lose.

    python -m benchmarks.learning --sets fraktur_archiscribe --corrections 16,50 --seeds 3 --out out/learning

For every set and seed documents arrive in random order; the first N lines are corrected and learned
from the reader of the first day by every arm; then the unseen documents of this set and of all others
are read, in FP32. The base is that reader without the words that it is given on the first day, and
without another look at lines that it hardly reads. Every result is a row of OUT/results.jsonl with the
command that made it; what has its row is not run again, so a run that was interrupted goes on. The
tables come last, with OUT/curves.png.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.learning import report, tesseract
from benchmarks.learning.arms import ARMS, USUAL, begin, train
from benchmarks.learning.sets import GOLDEN, Unseen, arriving, names, unseen
from benchmarks.mistakes import spoil
from training import recipe
from training.doubt import Statement

Read = dict[str, list[str]]
"""Of every set how its unseen lines were read."""


class Results:
    """Rows in a file, one appended at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def has(self, key: dict[str, Any]) -> bool:
        return any(key.items() <= row.items() for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def wanted(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What identifies every row to be made, small ones first."""
    for seed in range(args.seeds):
        for corrections in args.corrections:
            for name in args.sets:
                for arm in args.arms:
                    key = {"set": name, "arm": arm, "corrections": corrections, "seed": seed}
                    yield key | {"recipe": args.recipe, "changed": args.hyper, "lines": args.lines}


def measure(
    args: argparse.Namespace, key: dict[str, Any], sets: list[Unseen], base: Read, first: Read
) -> Any:
    """One row: train one arm, and read everything with what came out."""
    chosen, arm = recipe.find(args.recipe), ARMS[key["arm"]]
    said = [Statement(x) for x in arriving(args.data / key["set"], key["corrections"], key["seed"])]
    said, _ = spoil(said, arm.wrong, key["seed"])
    corrected = [s.line for s in said]
    hyper = chosen.defaults.updated(dict(p.split("=", 1) for p in args.hyper) | {"seed": key["seed"]})
    hyper = hyper.updated(arm.changed)
    model = begin(chosen, corrected, hyper)
    began = time.process_time()
    kept = train(arm, model, said, hyper)
    row = key | {"cpu_s": round(time.process_time() - began, 1), "kept": kept, "threads": args.threads}
    row |= {"learned": len(corrected), "cer": {}, "broken": {}}
    for one in sets:
        before, after = first[one.name], one.read(model)
        row["cer"][one.name] = [one.cer(before), one.cer(after)]
        if one.name == key["set"]:
            row["base"] = one.cer(base[one.name])
            row["graphemes"] = [one.grapheme_cer(before), one.grapheme_cer(after)]
        lost = [a and not b for a, b in zip(one.right(before), one.right(after), strict=True)]
        row["broken"][one.name] = sum(lost) / len(lost)
    return row | {"command": shlex.join(["python", "-m", "benchmarks.learning", *sys.argv[1:]])}


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    results, peers = Results(args.out / "results.jsonl"), Results(args.out / "peers.jsonl")
    start = recipe.find(args.recipe).build(None, []).eval()
    others = names(args.data) if args.others is None else args.others
    sets = unseen(args.data, sorted({*args.sets, *others}), args.lines, start)
    first = {one.name: one.read(start) for one in sets}
    start.language = None
    base = {one.name: one.read(start, once=True) for one in sets}
    for one in sets:
        key = {"set": one.name, "lines": len(one.lines)}
        if one.name != GOLDEN and not peers.has(key):
            why = tesseract.missing(one.name)
            read = why or one.cer(tesseract.read(one.name, one.lines, args.threads))
            rates = {"base": one.cer(base[one.name]), "first day": one.cer(first[one.name])}
            peers.add(key | rates | {"tesseract": read})
    for key in wanted(args):
        if not results.has(key):
            results.add(measure(args, key, sets, base, first))
            sys.stderr.write(f"{json.dumps(key)}: {report.cut(results.rows[-1]):.1%} less CER\n")
    asked = list(wanted(args))
    rows = [row for row in results.rows if any(key.items() <= row.items() for key in asked)]
    report.picture(rows, args.out / "curves.png")
    sys.stdout.write(f"{report.table(rows)}\n\n{report.peers(peers.rows)}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    folder = Path(os.environ.get("REDPENCIL_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=folder, help="folder of the line sets")
    parser.add_argument(
        "--sets", type=_names, default=["fraktur_archiscribe"], help="sets that are corrected"
    )
    parser.add_argument(
        "--others", type=_names, help="sets that must not suffer; default: all there are in the folder"
    )
    parser.add_argument(
        "--corrections", type=lambda s: [int(n) for n in s.split(",")], default=[16, 50, 200, 500]
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many orders of documents")
    parser.add_argument("--arms", type=_names, default=list(USUAL), help=", ".join(ARMS))
    parser.add_argument("--recipe", default="ppocr")
    parser.add_argument("--lines", type=int, default=200, help="unseen lines of every set, at most")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("hyper", nargs="*", metavar="NAME=VALUE", help="training parameters")
    return parser.parse_args()


def _names(listed: str) -> list[str]:
    return [name for name in listed.split(",") if name]


if __name__ == "__main__":
    main()
