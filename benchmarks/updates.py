"""Updates in a row, of one domain after the other, each through the real gate: what becomes of them all?

    python -m benchmarks.updates --sets fraktur_archiscribe,sroie_receipts --updates 10 --out DIR

Starts a stack of its own, whose home is DIR/home. For every update documents of the next set arrive, their
lines are read, corrected with their truth and learned from by HTTP; what passes the gate is promoted. Then
the champion reads unseen lines of every set. A row of DIR/results.jsonl for each, the curves in
DIR/updates.png; interrupted, it goes on after the last row.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.learning.__main__ import Results
from benchmarks.learning.sets import UPPER
from benchmarks.retrain import documents
from benchmarks.stack import Stack, running
from redpencil.metrics import cer
from services.cli_runs import follow
from services.client import Client
from services.demo import Line, correct, read_one, wait_served


@dataclass
class Domain:
    """A set whose documents arrive one after the other; `unseen` lines are of documents that never do."""

    name: str
    waiting: list[list[Line]]
    unseen: list[Line]

    @classmethod
    def of(cls, folder: Path, seed: int, unseen: int, each: int) -> Domain:
        """`each`: lines of a document that are corrected, at most."""
        order, held = documents(folder, seed), list[Line]()
        while len(held) < unseen and len(order) > 1:
            held += order.pop(0)
        return cls(folder.name, [document[:each] for document in order], held[:unseen])

    def arrive(self, count: int) -> list[Line]:
        """More documents, until there are `count` lines or no more documents."""
        lines: list[Line] = []
        while len(lines) < count and self.waiting:
            lines += self.waiting.pop()
        return lines

    def cer(self, api: Client) -> float:
        """Of what serves now, by HTTP."""
        fold = str.upper if self.name in UPPER else str
        read = [(line.truth, read_one(api, line).text) for line in self.unseen]
        return cer([(fold(truth), fold(text)) for truth, text in read])


def update(stack: Stack, lines: Sequence[Line], decided: bool) -> dict[str, Any]:
    """Correct, retrain, judge, and promote what passes; where a person decides also what is inconclusive."""
    api, model = Client(stack.settings), stack.settings.model
    correct(api, [read_one(api, line) for line in lines])
    begun = time.monotonic()
    run = follow(api, api.send("/v1/training-runs", {"model": model})["id"])
    if run["state"] != "succeeded":
        raise RuntimeError(f"the run {run['state']}: {run['error']}")
    verdict = api.read(f"/v1/models/{model}/versions/{run['version']}")["verdict"]
    how = {"passed": "promote", "inconclusive": "override" if decided else ""}.get(verdict["outcome"])
    if how:
        body = {"version": run["version"], "who": "benchmark", "why": f"the gate: {verdict['outcome']}"}
        api.send(f"/v1/models/{model}/{how}", body)
        wait_served(api, lines[0], run["version"])
    told = {"version": run["version"], "outcome": verdict["outcome"], "reasons": verdict["reasons"]}
    return told | {"corrections": len(lines), "seconds_to_judged": round(time.monotonic() - begun)}


def picture(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """CER of every domain over the updates; a mark where its own corrections were learned."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for name in rows[0]["cer"]:
        values = [100 * row["cer"][name] for row in rows]
        own = [i for i, row in enumerate(rows) if row["set"] == name]
        panel.plot(range(len(rows)), values, marker="o", markevery=own, label=name)
    panel.set(xlabel="updates", ylabel="CER of the champion on unseen lines, %", yscale="log")
    panel.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    args = _arguments()
    results = Results(args.out / "results.jsonl")
    names = sorted({*args.sets, *args.others})
    domains = {name: Domain.of(args.data / name, args.seed, args.lines, args.each) for name in names}
    with running(args.out / "home") as stack:
        api = Client(stack.settings)
        for number in range(args.updates + 1):
            name = args.sets[(number - 1) % len(args.sets)] if number else ""
            lines = domains[name].arrive(args.corrections) if name else []
            if number < len(results.rows):
                continue
            if name and not lines:
                raise SystemExit(f"{name} has no more documents; ask for fewer updates or corrections")
            told = update(stack, lines, args.decided) if lines else {}
            read = {n: d.cer(api) for n, d in domains.items()}
            results.add({"update": number, "set": name} | told | {"cer": read})
            cells = "  ".join(f"{n} {c:.2%}" for n, c in read.items())
            sys.stdout.write(f"{number:2} {name or 'base'} {told.get('outcome', '')}: {cells}\n")
            picture(results.rows, args.out / "updates.png")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    folder = Path(os.environ.get("REDPENCIL_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=folder)
    parser.add_argument("--sets", type=lambda s: s.split(","), required=True, help="in turns")
    parser.add_argument("--others", type=lambda s: s.split(","), default=[], help="read, never corrected")
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--corrections", type=int, default=50, help="lines an update, at least")
    parser.add_argument("--each", type=int, default=10**6, help="lines of a document, at most")
    parser.add_argument("--decided", action="store_true", help="a person lets in what is inconclusive")
    parser.add_argument("--lines", type=int, default=100, help="unseen lines of every set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
