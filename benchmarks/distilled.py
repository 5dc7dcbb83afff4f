"""A small fast reader taught by the one that serves: CER and lines per CPU-second beside it.

    python -m benchmarks.distilled --sets oldbooks_english,sroie_receipts --unlabelled 2000 --out DIR

The base, in INT8, reads documents of the train side, whose truth nobody is told but for the first few lines;
crnn goes on from its distilled start, as `--param unlabelled=N` does in a run. Then lines of documents that
neither has seen are read alone, on one thread, by each in turn. Rows are added to DIR/results.jsonl.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.learning.__main__ import Results
from benchmarks.learning.arms import learn
from benchmarks.learning.sets import UPPER, arriving, unseen_lines
from redpencil.bundle import Manifest
from redpencil.metrics import cer
from redpencil.reader import LineReader, read_parallel
from training import base, data
from training.crops import Line
from training.hyper import Hyper
from training.recipes import crnn
from training.unlabelled import SURE


def as_read(reader: LineReader, lines: Sequence[Line]) -> list[Line]:
    """The lines as the reader reads them, where it is sure."""
    found = read_parallel(reader, [line.image for line in lines], torch.get_num_threads())
    read = zip(lines, found, strict=True)
    return [Line(line.image, r.text, group=line.group) for line, r in read if r.text and r.confidence >= SURE]


def distilled(corrected: Sequence[Line], read: Sequence[Line], hyper: Hyper, folder: Path) -> None:
    """A crnn bundle that learned from both; without either, its distilled start."""
    torch.manual_seed(hyper.seed)
    rehearsed = data.rehearsal(hyper) if hyper.replay else []
    model = crnn.build(None, [x.text for x in (*corrected, *read, *rehearsed)], hyper)
    if corrected:
        learn(model, corrected, hyper, read)
        model.know([*corrected, *read], rehearsed)
    folder.mkdir()
    model.eval().to_bundle(folder, [*corrected, *read[: len(rehearsed)], *rehearsed], {"recipe": "crnn"})


def compared(readers: dict[str, LineReader], lines: Sequence[Line], fold: bool) -> dict[str, Any]:
    """CER and lines per CPU-second of each; which one begins changes from line to line."""
    names, texts, seconds = list(readers), {n: list[str]() for n in readers}, dict.fromkeys(readers, 0.0)
    for reader in readers.values():
        reader.warm()
    for number, line in enumerate(lines):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            began = time.thread_time()
            texts[name].append(readers[name].read(line.image).text)
            seconds[name] += time.thread_time() - began

    def wrong(name: str) -> float:
        pairs = [(line.text, text) for line, text in zip(lines, texts[name], strict=True)]
        return cer([(a.upper(), b.upper()) for a, b in pairs] if fold else pairs)

    return {n: {"cer": wrong(n), "lines_per_cpu_s": round(len(lines) / seconds[n], 1)} for n in names}


def measure(args: argparse.Namespace, name: str, big: Path, scratch: Path) -> dict[str, Any]:
    """One set: teach, and read what is unseen."""
    hyper = crnn.RECIPE.defaults.updated(dict(p.split("=", 1) for p in args.hyper) | {"seed": args.seed})
    corrected = arriving(args.data / name, args.corrected, args.seed)
    arrived = arriving(args.data / name, args.corrected + args.unlabelled, args.seed)
    read = as_read(LineReader(big), arrived[len(corrected) :])
    began = time.process_time()
    distilled(corrected, read, hyper, scratch / name)
    row = {"set": name, "corrected": len(corrected), "unlabelled": len(read), "seed": args.seed}
    row |= {"changed": args.hyper, "cpu_s": round(time.process_time() - began)}
    readers = {"base": LineReader(big), "start": LineReader(scratch / "start")}
    graphs = Manifest.load(scratch / name).graphs
    readers |= {f"crnn {p.value}": LineReader(scratch / name, p) for p in graphs}
    return row | compared(readers, unseen_lines(args.data / name, args.lines), name in UPPER)


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    results = Results(args.out / "results.jsonl")
    with tempfile.TemporaryDirectory() as made:
        scratch, big = Path(made), Path(made) / "base"
        big.mkdir()
        base.write(big)
        distilled([], [], crnn.RECIPE.defaults, scratch / "start")
        for name in args.sets:
            results.add(measure(args, name, big, scratch))
            sys.stdout.write(f"{results.rows[-1]}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    folder = Path(os.environ.get("REDPENCIL_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=folder)
    parser.add_argument("--sets", type=lambda s: s.split(","), default=["oldbooks_english", "sroie_receipts"])
    parser.add_argument("--corrected", type=int, default=16, help="lines whose truth is told")
    parser.add_argument("--unlabelled", type=int, default=2000, help="lines as the base reads them, at most")
    parser.add_argument("--lines", type=int, default=200, help="unseen lines of every set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("hyper", nargs="*", metavar="NAME=VALUE", help="training parameters")
    return parser.parse_args()


if __name__ == "__main__":
    main()
