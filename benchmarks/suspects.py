"""How well wrong corrections are found: `python -m benchmarks.suspects --out DIR`.

Of every set whole documents are drawn, 5 % of their lines get a wrong text (see mistakes.py), and the
shipped base reads them as the champion would before its first training. Documents fall into two
halves by hash: what was tuned was tuned on half 0, and half 1 is what is reported. What the readers
made of the lines is kept in DIR, so a second run only ranks anew. The 5 % most suspect lines are
looked at, and those beyond the bound, which a run would leave out.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.learning.sets import line_of, rows_of
from benchmarks.mistakes import KINDS, RIGHT, spoil
from redpencil.suspects import BOUND, Seen, weigh
from training import recipe
from training.doubt import Statement, see
from training.recipe import LineModel

SETS = (
    *("fraktur_archiscribe", "oldbooks_english", "sroie_receipts", "funsd_forms"),
    *("poilus_handwriting", "kannada_print"),
)
SHARE = 0.05
REPORTED = 1
"""The half of the documents that nothing was tuned on."""


@dataclass(frozen=True)
class Case:
    """Spoiled lines of one set: what the readers made of each, and its kind of mistake."""

    name: str
    seen: list[Seen]
    kinds: list[str]


def statements(folder: Path, half: int, count: int, seed: int) -> list[Statement]:
    """At most `count` lines of whole documents of one half, in reading order within each."""
    documents: dict[str, list[tuple[str, str, str]]] = {}
    for cells in rows_of(folder):
        if hashlib.sha256(b"half:" + cells[1].encode()).digest()[0] % 2 == half:
            documents.setdefault(cells[1], []).append(cells)
    rng = np.random.default_rng(seed)
    rows = [row for document in rng.permutation(sorted(documents)) for row in documents[str(document)]]
    authors = rng.integers(5, size=count)
    return [
        Statement(line_of(folder, *row), f"author {a}") for row, a in zip(rows[:count], authors, strict=False)
    ]


def made(data: Path, name: str, half: int, lines: int, seed: int) -> tuple[list[Seen], list[str]]:
    """Spoil and read; the costly part."""
    said, kinds = spoil(statements(data / name, half, lines, seed), SHARE, seed)
    ppocr = recipe.find("ppocr")
    spoken = [text for s in said for text in (s.line.text, *s.earlier)]

    def build() -> LineModel:
        model = ppocr.build(None, spoken, ppocr.defaults)
        assert isinstance(model, LineModel)
        return model

    return see(build, said, ppocr.defaults).seen, kinds


class Tally:
    """Of some cases: the 5 % most suspect lines, and those that a run would leave out."""

    def __init__(self, title: str, cases: Sequence[Case]) -> None:
        self.title, self.lines = title, sum(len(case.kinds) for case in cases)
        self.made: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        for case in cases:
            self._add(case)

    def _add(self, case: Case) -> None:
        scores = np.array([s.score for s in weigh(case.seen)])
        top = np.argsort(-scores, kind="stable")[: round(SHARE * len(scores))]
        self.made.update(case.kinds)
        self.found.update(case.kinds[i] for i in top)
        self.left_out.update(case.kinds[i] for i in np.flatnonzero(scores >= BOUND))

    def row(self) -> str:
        wrong = {kind: self.made[kind] for kind in KINDS}
        found = sum(self.found[kind] for kind in KINDS)
        out = sum(self.left_out[kind] for kind in KINDS)
        cells = [self.title, str(self.lines), f"{found / self.found.total():.0%}"]
        cells.append(f"{found / sum(wrong.values()):.0%}")
        cells += [f"{self.found[kind] / max(1, wrong[kind]):.0%}" for kind in KINDS]
        cells.append(f"{out / sum(wrong.values()):.0%}")
        cells.append(f"{self.left_out[RIGHT] / self.made[RIGHT]:.2%}")
        return f"| {' | '.join(cells)} |"


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    cases = []
    for seed in range(args.seeds):
        for name in args.sets:
            file = args.out / f"{name}-half{args.half}-{args.lines}-seed{seed}.pickle"
            if not file.exists():
                began = time.process_time()
                file.write_bytes(pickle.dumps(made(args.data, name, args.half, args.lines, seed)))
                sys.stderr.write(f"{file.name}: {time.process_time() - began:.0f} CPU-s\n")
            cases.append(Case(name, *pickle.loads(file.read_bytes())))
    print(f"python -m benchmarks.suspects {shlex.join(sys.argv[1:])}")
    print(f"| set | lines | precision | recall | {' | '.join(KINDS)} | wrong left out | right left out |")
    print("|" + "---|" * (6 + len(KINDS)))
    for name in args.sets:
        print(Tally(name, [c for c in cases if c.name == name]).row())
    print(Tally("all", cases).row())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suspects",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    folder = Path(os.environ.get("REDPENCIL_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=folder, help="folder of the line sets")
    parser.add_argument("--sets", type=lambda s: s.split(","), default=list(SETS))
    parser.add_argument("--half", type=int, choices=(0, 1), default=REPORTED, help="0: the one to tune on")
    parser.add_argument("--lines", type=int, default=300, help="of every set, at most")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, required=True, help="folder of what the readers said")
    return parser.parse_args()


if __name__ == "__main__":
    main()
