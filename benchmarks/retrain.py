"""100 corrections of one domain, by HTTP: how long until the judged version, and what is it worth?

    python -m benchmarks.retrain --set fraktur_archiscribe --corrections 100

Starts a stack of its own; lines of random documents are posted (with the document as group) and
corrected with their truth. Prints seconds from the retrain call to the judged version, the gate's
reasons, and the CER of champion and new version, by HTTP, on lines of other documents.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import tempfile
import time
from pathlib import Path

from benchmarks.learning.sets import rows_of
from benchmarks.stack import Stack, running
from redpencil.metrics import cer
from services.cli_runs import follow
from services.client import Client
from services.demo import Line, correct, read_one

UNSEEN = 150


def documents(folder: Path, seed: int) -> list[list[Line]]:
    """The set's lines by document, the documents in random order."""
    found: dict[str, list[Line]] = {}
    for file, document, text in rows_of(folder):
        found.setdefault(document, []).append(Line(document, text, (folder / file).read_bytes()))
    order = list(found.values())
    random.Random(seed).shuffle(order)
    return order


def divide(order: list[list[Line]], count: int) -> tuple[list[Line], list[Line]]:
    """`count` lines to correct, and lines of the documents after those."""
    corrected: list[Line] = []
    while len(corrected) < count:
        corrected += order.pop()
    return corrected[:count], [line for document in order for line in document][:UNSEEN]


def measure(stack: Stack, corrected: list[Line], unseen: list[Line]) -> dict[str, object]:
    api = Client(stack.settings)
    correct(api, [read_one(api, line) for line in corrected])
    begun = time.monotonic()
    run = follow(api, api.send("/v1/training-runs")["id"])
    seconds = time.monotonic() - begun
    if run["state"] != "succeeded":
        raise RuntimeError(f"the run {run['state']}: {run['error']}")
    version = run["version"]
    verdict = api.read(f"/v1/models/ocr/versions/{version}")["verdict"]
    return {
        "corrections": len(corrected),
        "seconds_to_judged": round(seconds),
        "phases_s": phases(stack.settings.home / "logs" / f"{run['id']}.log"),
        "outcome": verdict["outcome"],
        "precision": verdict["precision"],
        "reasons": verdict["reasons"],
        "unseen_lines": len(unseen),
        "unseen_cer_before": round(error(api, unseen, "1"), 4),
        "unseen_cer_after": round(error(api, unseen, version), 4),
    }


def phases(log: Path) -> dict[str, float]:
    """The seconds of each step, as the run's own log tells them."""
    return {name: float(took) for name, took in re.findall(r"(\w+): ([\d.]+) s$", log.read_text(), re.M)}


def error(api: Client, lines: list[Line], version: str) -> float:
    """CER of one version on lines, read by HTTP."""
    answers = [api.predict(line.data, "image/png", mode="line", model_version=version) for line in lines]
    texts = [answer["pages"][0]["text"] for answer in answers]
    return cer([(line.truth, text) for line, text in zip(lines, texts, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    folder = Path(os.environ.get("REDPENCIL_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=folder)
    parser.add_argument("--set", default="fraktur_archiscribe")
    parser.add_argument("--corrections", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    corrected, unseen = divide(documents(args.data / args.set, args.seed), args.corrections)
    with tempfile.TemporaryDirectory(prefix="redpencil-retrain-") as home, running(Path(home)) as stack:
        row = {"set": args.set, "first_start_s": round(stack.ready_s)}
        print(json.dumps(row | measure(stack, corrected, unseen), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
