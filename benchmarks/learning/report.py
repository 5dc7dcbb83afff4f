"""From result rows to tables and a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import t as student

Row = dict[str, Any]
LEAST = 0.001  # what a CER near zero rises by is told relative to this


def cut(row: Row) -> float:
    """The relative cut of the untouched base's CER on unseen documents of the set that was corrected."""
    return float(1 - row["cer"][row["set"]][1] / row["base"])


def forgotten(row: Row) -> float:
    """The worst relative rise of the CER on another set; the golden pack is one."""
    others = [pair for name, pair in row["cer"].items() if name != row["set"]]
    return float(max((after - before) / max(before, LEAST) for before, after in others))


def broken(row: Row) -> float:
    """The largest share of another set's lines that turned from right to wrong."""
    return float(max(share for name, share in row["broken"].items() if name != row["set"]))


def spread(values: Sequence[float]) -> str:
    """Mean and half of the 95 % interval (Student's t), in per cent."""
    if len(values) < 2:
        return f"{100 * values[0]:.1f}"
    half = float(student.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return f"{100 * mean(values):.1f} ± {100 * half:.1f}"


def table(rows: Sequence[Row]) -> str:
    """One line for every set, number of corrections and arm."""
    told = [
        "| set | corrected | way | seeds | CER | graphemes | cut % | worst rise elsewhere % "
        "| right to wrong % | CPU s |"
    ]
    told.append("|" + "---|" * 10)
    for key, group in _grouped(rows):
        rates = (
            _means([(r["base"], *r["cer"][r["set"]]) for r in group]),
            _means([r["graphemes"] for r in group]),
        )
        measured = [spread([measure(r) for r in group]) for measure in (cut, forgotten, broken)]
        seconds = mean(r["cpu_s"] for r in group)
        cells = [*map(str, key), str(len(group)), *rates, *measured, f"{seconds:.0f}"]
        told.append(f"| {' | '.join(cells)} |")
    return "\n".join(told)


def peers(rows: Iterable[Row]) -> str:
    """Readers that did not learn, on the same unseen lines."""
    told = ["| set | lines | base CER | first day | Tesseract CER |", "|---|---|---|---|---|"]
    for row in rows:
        tesseract = row["tesseract"] if isinstance(row["tesseract"], str) else f"{row['tesseract']:.2%}"
        rates = f"{row['base']:.2%} | {row['first day']:.2%}"
        told.append(f"| {row['set']} | {row['lines']} | {rates} | {tesseract} |")
    return "\n".join(told)


def picture(rows: Sequence[Row], path: Path) -> None:
    """CER on unseen documents over the number of corrections, a panel for every set."""
    sets = sorted({r["set"] for r in rows})
    figure = Figure(figsize=(4.2 * len(sets), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, name in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        for arm in sorted({r["arm"] for r in rows}):
            own = [(k, g) for k, g in _grouped(rows) if k[0] == name and k[2] == arm]
            if own:
                start = mean(r["cer"][name][0] for _, g in own for r in g)
                after = [100 * mean(r["cer"][name][1] for r in g) for _, g in own]
                panel.plot([0, *(k[1] for k, _ in own)], [100 * start, *after], marker="o", label=arm)
        panel.set(title=name, xlabel="corrected lines", ylabel="CER, %", ylim=(0, None))
        panel.legend()
    figure.savefig(path, dpi=110)


def _means(pairs: Sequence[Sequence[float]]) -> str:
    """What came one after the other, each the mean over the seeds."""
    return " > ".join(f"{mean(side):.2%}" for side in zip(*pairs, strict=True))


def _grouped(rows: Sequence[Row]) -> list[tuple[tuple[str, int, str], list[Row]]]:
    groups: dict[tuple[str, int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["set"], row["corrections"], row["arm"]), []).append(row)
    return sorted(groups.items())
