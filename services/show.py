"""How answers look: JSON where asked or piped on request, tables for people."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(highlight=False, soft_wrap=True)

FEW = 8  # ids that stand in one line
SECRETS = ("api_keys", "secret")


def masked(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as others may see them: no keys, and no names and passwords in addresses."""
    return {name: _masked(name, v) if isinstance(v, str) else v for name, v in settings.items()}


def _masked(name: str, value: str) -> str:
    if name in SECRETS:
        return value and "***"
    return re.sub(r"(?<=[?&]password=)[^&]*", "***", re.sub(r"://.*@", "://***@", value))


def as_json(value: Any) -> None:
    """Machine-readable, one document, nothing around it."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """A table, or the sentence that says why there is none."""
    grid = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        grid.add_row(*(Text(cell(value)) for value in row))
    out.print(grid if grid.row_count else Text(empty))


def cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


def when(seconds: float | None) -> str:
    """A moment as local time, to the second."""
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def duration(seconds: float) -> str:
    """The whole minutes and seconds of a time span."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(count: float) -> str:
    """Bytes, in gigabytes."""
    return f"{count / 1e9:.1f} GB"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def lines(told: Iterable[str]) -> None:
    """Sentences, each on a line of its own."""
    for line in told:
        _line(line)


def tree(node: Any, name: str = "", depth: int = 0) -> None:
    """Nested facts, indented: one fact a line, whose name says how it is to be read."""
    pad = "  " * depth
    if isinstance(node, dict):
        _line(f"{pad}{name}") if name else None
        for key, value in node.items():
            tree(value, key, depth + bool(name))
    elif isinstance(node, list) and any(isinstance(n, dict | list) for n in node):
        _line(f"{pad}{name} ({len(node)})")
        for value in node:
            tree(value, "-", depth + 1)
    else:
        _line(f"{pad}{name}: {_fact(name, node)}")


def _fact(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        shown = ", ".join(map(str, value[:FEW])) or "none"
        return f"{shown}, and {len(value) - FEW} more (--json lists all)" if value[FEW:] else shown
    if isinstance(value, int | float) and (name == "at" or name.endswith("_at")):
        return when(value)
    if isinstance(value, int | float) and name.endswith("_bytes"):
        return size(value)
    return cell(value)


def _line(text: str) -> None:
    out.print(Text(text))


def reading(path: Path, answer: Any) -> None:
    """What was read in a file, line by line, with the ids that corrections need."""
    head = f"{path}  {answer['prediction_id']}  version {answer['model_version']} ({answer['variant']})"
    out.print(head, markup=False)
    blocks = [b for page in answer["pages"] for b in page["blocks"]]
    rows = [(b["id"], f"{b['confidence']:.2f}", b["text"]) for b in blocks]
    table(("region", "conf.", "text"), rows, empty="no text found")
