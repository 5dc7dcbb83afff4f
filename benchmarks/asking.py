"""What choosing lines is worth: `python -m benchmarks.asking --sets A,B --corrections 50,110,200 --out DIR`.

A pool of lines of documents that may be learned from is read by the reader of the first day. N of them are
corrected, chosen in several ways: as the documents arrive, at random, the least confident, and as the
review queue asks (`redpencil.asking`, ten at a time, from 400 that are half unsure and half drawn).
Each choice is learned by the recipe as it ships, and unseen documents of the set are read. What has
its row in DIR/results.jsonl is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.learning.__main__ import Results
from benchmarks.learning.arms import ARMS, begin, train
from benchmarks.learning.sets import Unseen, arriving, unseen_lines
from redpencil.asking import Candidate, choose
from redpencil.types import LineText
from training import data, recipe
from training.crops import Line
from training.frozen import Frozen
from training.recipe import LineModel

BATCH = 10  # lines that the console asks for at once
CANDIDATES = 400

Way = Callable[[Sequence[Line], Sequence[LineText], int, int], list[int]]


def arrived(lines: Sequence[Line], read: Sequence[LineText], n: int, seed: int) -> list[int]:
    return list(range(n))


def drawn(lines: Sequence[Line], read: Sequence[LineText], n: int, seed: int) -> list[int]:
    return [int(i) for i in np.random.default_rng([seed, 1]).permutation(len(lines))[:n]]


def unsure(lines: Sequence[Line], read: Sequence[LineText], n: int, seed: int) -> list[int]:
    return sorted(range(len(lines)), key=lambda i: read[i].confidence)[:n]


def useful(lines: Sequence[Line], read: Sequence[LineText], n: int, seed: int) -> list[int]:
    """As `GET /v1/review/next` asks, every answer being a correction before the next call."""
    rng, chosen = np.random.default_rng([seed, 2]), list[int]()
    while len(chosen) < n:
        left = [i for i in unsure(lines, read, len(lines), seed) if i not in chosen]
        some = dict.fromkeys([*left[: CANDIDATES // 2], *rng.permutation(left)[: CANDIDATES // 2].tolist()])
        waits = [Candidate((str(i), ""), read[i].text, read[i].char_confidence, lines[i].group) for i in some]
        asked = [read[i].text for i in chosen]
        chosen += [int(c.place[0]) for c in choose(waits, min(BATCH, n - len(chosen)), asked)]
    return chosen


WAYS: dict[str, Way] = {"arriving": arrived, "random": drawn, "unsure": unsure, "useful": useful}


def measure(
    args: argparse.Namespace, key: dict[str, Any], pool: list[Line], read: list[LineText], held: Unseen
) -> dict[str, Any]:
    """One row: correct the chosen lines, learn them, read the unseen documents."""
    corrected = [pool[i] for i in WAYS[key["way"]](pool, read, key["corrections"], key["seed"])]
    chosen = recipe.find("ppocr")
    hyper = chosen.defaults.updated(dict(p.split("=", 1) for p in args.hyper) | {"seed": key["seed"]})
    model = begin(chosen, corrected, hyper)
    began = time.process_time()
    kept = train(ARMS["ours"], model, corrected, hyper)
    row = key | {"kept": kept, "cpu_s": round(time.process_time() - began, 1)}
    row |= {"characters": sum(len(line.text) for line in corrected)}
    row |= {"documents": len({line.group for line in corrected}), "cer": held.cer(held.read(model))}
    return row | {"command": shlex.join(["python", "-m", "benchmarks.asking", *sys.argv[1:]])}


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    results = Results(args.out / "results.jsonl")
    base = recipe.find("ppocr").build(None, [], recipe.find("ppocr").defaults).eval()
    assert isinstance(base, LineModel)
    for name in args.sets:
        keys = [k for k in wanted(args, name) if not results.has(k)]
        if not keys:
            continue
        held = Unseen.of(name, unseen_lines(args.data / name, args.lines), base)
        before = {"base": held.cer(held.read(base))}
        for seed in sorted({k["seed"] for k in keys}):
            pool = arriving(args.data / name, args.pool, seed)
            read = data.read(base, Frozen(base).map(lambda line: line.image, pool))
            for key in (k for k in keys if k["seed"] == seed):
                results.add(measure(args, key | before, pool, read, held))
                sys.stderr.write(f"{json.dumps(results.rows[-1], ensure_ascii=False)}\n")
    asked = [key for name in args.sets for key in wanted(args, name)]
    print(table([row for key in asked for row in results.rows if key.items() <= row.items()]))


def wanted(args: argparse.Namespace, name: str) -> list[dict[str, Any]]:
    """What identifies every row of a set."""
    same = {"set": name, "pool": args.pool, "lines": args.lines, "changed": args.hyper}
    return [
        same | {"seed": seed, "corrections": n, "way": way}
        for seed in range(args.seeds)
        for n in args.corrections
        for way in args.ways
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    told = [
        "| set | seed | corrected | way | characters | documents | CER before | after | cut |",
        "|" + "---|" * 9,
    ]
    for r in rows:
        cells = [r["set"], r["seed"], r["corrections"], r["way"], r["characters"], r["documents"]]
        rates = f"{r['base']:.2%} | {r['cer']:.2%} | {1 - r['cer'] / r['base']:.1%}"
        told.append(f"| {' | '.join(map(str, cells))} | {rates} |")
    return "\n".join(told)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.asking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    folder = Path(os.environ.get("REDPENCIL_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=folder, help="folder of the line sets")
    parser.add_argument("--sets", type=lambda s: s.split(","), default=["fraktur_archiscribe"])
    parser.add_argument(
        "--corrections", type=lambda s: [int(n) for n in s.split(",")], default=[50, 110, 200]
    )
    parser.add_argument("--ways", type=lambda s: s.split(","), default=list(WAYS), help=", ".join(WAYS))
    parser.add_argument("--pool", type=int, default=800, help="lines to choose from, at most")
    parser.add_argument("--lines", type=int, default=200, help="unseen lines, at most")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("hyper", nargs="*", metavar="NAME=VALUE", help="training parameters")
    return parser.parse_args()


if __name__ == "__main__":
    main()
