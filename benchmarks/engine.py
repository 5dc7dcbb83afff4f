"""A bundle's INT8 graph beside its FP32 one and RapidOCR's own recogniser: size, CER, lines per CPU-second.

    python -m benchmarks.engine --data ../shared/data --lines 200

Every line is read by each in turn, alone, on one thread; which one begins changes from line to
line. Intervals draw whole documents. Receipts are scored without case, as their labels are upper.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from redpencil.bootstrap import interval
from redpencil.bundle import Manifest
from redpencil.metrics import characters, distance
from redpencil.pixels import Pixels
from redpencil.reader import LineReader

SETS = ("oldbooks_english", "sroie_receipts", "funsd_forms", "fraktur_archiscribe", "poilus_handwriting")
UPPER = ("sroie_receipts",)

Read = Callable[[Pixels], str]


@dataclass(frozen=True)
class Row:
    """One line as each reader read it."""

    document: str
    length: int
    errors: dict[str, int]
    seconds: dict[str, float]


def lines(folder: Path, count: int) -> list[tuple[Pixels, str, str]]:
    """(image, document, text) of lines drawn from all over a set, the same in every run."""
    with (folder / "lines.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    drawn = np.random.default_rng(0).permutation(len(rows))[:count]
    return [(_open(folder / rows[i]["file"]), rows[i]["document"], rows[i]["text"]) for i in drawn]


def _open(path: Path) -> Pixels:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise SystemExit(f"{path} cannot be read")
    return image


def readers(folder: Path) -> dict[str, Read]:
    """The bundle in each of its precisions, and the peer."""
    ours = {p.value: LineReader(folder, p) for p in Manifest.load(folder).graphs}
    return {name: _text(reader) for name, reader in ours.items()} | {"rapidocr": _rapidocr()}


def _text(reader: LineReader) -> Read:
    reader.warm()
    return lambda line: reader.read(line).text


def _rapidocr() -> Read:
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"EngineConfig.onnxruntime.intra_op_num_threads": 1, "Global.text_score": 0.0})

    def read(line: Pixels) -> str:
        found = engine(line[:, :, ::-1], use_det=False, use_cls=False, use_rec=True).txts
        return found[0] if found else ""

    return read


def rows(folder: Path, count: int, by: dict[str, Read]) -> Iterator[Row]:
    names = list(by)
    for number, (image, document, text) in enumerate(lines(folder, count)):
        turn = number % len(names)
        errors, seconds = {}, {}
        for name in names[turn:] + names[:turn]:
            began = time.process_time()
            said = by[name](image)
            seconds[name] = time.process_time() - began
            upper = folder.name in UPPER
            errors[name] = distance(text.upper(), said.upper()) if upper else distance(text, said)
        yield Row(document, len(characters(text)), errors, seconds)


def summary(read: Sequence[Row]) -> dict[str, Any]:
    """Per reader: CER in per cent, its rise over FP32 with the 95 % interval, and how fast it was."""
    total = sum(row.length for row in read)
    told: dict[str, Any] = {"lines": len(read), "documents": len({row.document for row in read})}
    for name in read[0].errors:
        rises = [row.errors[name] - row.errors["fp32"] for row in read]
        between = interval(rises, [row.length for row in read], [row.document for row in read])
        seconds, slow = (sum(row.seconds[n] for row in read) for n in (name, "fp32"))
        told[name] = {
            "cer": round(100 * sum(row.errors[name] for row in read) / total, 2),
            "rise": round(100 * sum(rises) / total, 2),
            "rise_95": [round(100 * x, 2) for x in (between.low, between.high)] if between else None,
            "lines_per_cpu_s": round(len(read) / seconds, 1),
            "times_fp32": round(slow / seconds, 2),
        }
    return told


def show(name: str, told: dict[str, Any]) -> None:
    print(f"\n{name}: {told['lines']} lines of {told['documents']} documents")
    for reader, numbers in told.items():
        if isinstance(numbers, dict):
            print(
                f"  {reader:10}" + "  ".join(f"{key} {value}" for key, value in numbers.items()), flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("REDPENCIL_DATA", "../shared/data")))
    parser.add_argument("--bundle", type=Path, help="bundle folder; else the base bundle, made anew")
    parser.add_argument("--lines", type=int, default=200, help="per set")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--out", type=Path, help="write everything as JSON here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.bundle or _base(Path(scratch))
        found: dict[str, Any] = {p.value: g.bytes for p, g in Manifest.load(folder).graphs.items()}
        print(f"bytes: {json.dumps(found)}", flush=True)
        by = readers(folder)
        for name in asked.sets:
            found[name] = summary(list(rows(asked.data / name, asked.lines, by)))
            show(name, found[name])
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _base(folder: Path) -> Path:
    from training import base

    began = time.process_time()
    base.write(folder)
    print(f"the base bundle took {time.process_time() - began:.1f} CPU-seconds to make", flush=True)
    return folder


if __name__ == "__main__":
    main()
