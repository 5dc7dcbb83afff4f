"""The whole loop before the user's eyes, over the same HTTP APIs that everybody uses."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from redpencil.errors import NotReady, RedpencilError
from redpencil.metrics import cer
from redpencil.settings import Settings
from redpencil.snapshot import side_of
from redpencil.types import CorrectionState, Split
from services.client import Client

Say = Callable[[str], None]
SERVED_WITHIN_S = 30.0
AUTHOR, UNDONE = "demo", "only a demo"


@dataclass(frozen=True)
class Line:
    """A rendered line: its document, its truth and its picture."""

    group: str
    truth: str
    data: bytes


@dataclass(frozen=True)
class Reading:
    line: Line
    prediction: str
    text: str


def play(api: Client, settings: Settings, documents: int, seed: int, say: Say) -> None:
    """Read, correct, retrain, gate, promote and read again; prints CER before and after.

    Raises RedpencilError with the gate's reasons where the new version may not be served.
    """
    say(f"1. Rendering {documents} documents in a black-letter type ...")
    lines = render(documents, seed)
    train = [line for line in lines if side_of(line.group) is Split.TRAIN]
    unseen = [line for line in lines if side_of(line.group) is Split.HOLDOUT]

    say(f"2. Reading {len(lines)} lines with the champion ...")
    first = read(api, lines)
    before = {line.truth: r for line, r in zip(lines, first, strict=True)}
    say(f"   CER {_cer(first)}: for instance {first[0].text!r} should be {first[0].line.truth!r}")

    say("3. Correcting every line, as a person would ...")
    correct(api, first)

    say("4. Retraining on the corrections (a few minutes on two cores) ...")
    version = retrain(api, settings, say)

    say(f"5. Promoting version {version} (the same as moving the alias in MLflow) ...")
    body = {"version": version, "who": AUTHOR, "why": "the demo's gate passed"}
    api.send(f"/v1/models/{settings.model}/promote", body)
    wait_served(api, lines[0], version)

    say("6. Reading the same lines again ...")
    after = read(api, lines)
    _compare(say, "documents that it learned from", train, before, after)
    _compare(say, "documents that it never saw", unseen, before, after)
    say(f"Look at the run and the version: {settings.mlflow}/#/models/{settings.model}/versions/{version}")
    say(f"Undo it with: redpencil demo --undo   Console: {settings.services}/")


def undo(api: Client, settings: Settings, say: Say) -> None:
    """Take the demo's corrections back, and its version out of service where that is the champion."""
    taken, learned = 0, set[str]()
    for correction in list(_standing(api)):
        answer = api.send(f"/v1/corrections/{correction}/revoke", {"who": AUTHOR, "why": UNDONE})
        taken, learned = taken + 1, learned | set(answer["learned_by"])
    say(f"{taken} corrections of the demo are taken back: nothing learns from them any more")
    champion = api.read("/v1/status", model=settings.model)["models"][settings.model]["serving"]["champion"]
    if f"{settings.model}/{champion}" in learned:
        now = api.send(f"/v1/models/{settings.model}/rollback", {"who": AUTHOR, "why": UNDONE})
        say(f"version {champion}, which learned from them, gives way to version {now['champion']}")


def _standing(api: Client) -> Iterator[str]:
    """The corrections of the demo that nobody has taken back."""
    after = None
    while True:
        page = api.read("/v1/corrections", author=AUTHOR, limit=500, after=after)
        yield from (one["id"] for one in page["items"] if one["state"] != CorrectionState.REVOKED)
        if (after := page["next"]) is None:
            return


def render(documents: int, seed: int) -> list[Line]:
    """Fresh lines from the renderer, which lives beside training."""
    with tempfile.TemporaryDirectory(prefix="redpencil-demo-") as folder:
        command = [sys.executable, "-m", "training.render", "demo", folder]
        command += ["--documents", str(documents), "--seed", str(seed)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RedpencilError(f"the demo's documents could not be rendered: {done.stderr[-500:]}")
        with (Path(folder) / "lines.tsv").open(encoding="utf-8", newline="") as table:
            rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
        return [Line(r["document"], r["text"], (Path(folder) / r["file"]).read_bytes()) for r in rows]


def read(api: Client, lines: list[Line]) -> list[Reading]:
    return [read_one(api, line) for line in lines]


def read_one(api: Client, line: Line) -> Reading:
    answer = api.predict(line.data, "image/png", mode="line", group=line.group)
    return Reading(line, answer["prediction_id"], answer["pages"][0]["text"])


def correct(api: Client, readings: list[Reading]) -> None:
    kinds = [
        {"kind": "accept"} if r.text == r.line.truth else {"kind": "correct", "text": r.line.truth}
        for r in readings
    ]
    body = [
        {"prediction_id": r.prediction, "author": AUTHOR} | kind
        for r, kind in zip(readings, kinds, strict=True)
    ]
    api.send("/v1/corrections", body)


def retrain(api: Client, settings: Settings, say: Say) -> str:
    """Train and judge; the version number, or an error with the reasons."""
    from services.cli_runs import follow

    run = follow(api, api.send("/v1/training-runs", {"model": settings.model})["id"])
    if run["state"] != "succeeded":
        raise RedpencilError(f"the training run {run['id']} {run['state']}: {run.get('error')}")
    verdict = api.read(f"/v1/models/{settings.model}/versions/{run['version']}")["verdict"]
    for reason in verdict["reasons"]:
        say(f"   gate: {reason}")
    if verdict["outcome"] != "passed":
        raise RedpencilError(f"version {run['version']} is {verdict['outcome']}; the old one keeps serving")
    return str(run["version"])


def wait_served(api: Client, line: Line, version: str) -> None:
    deadline = time.monotonic() + SERVED_WITHIN_S
    while time.monotonic() < deadline:
        answer = api.predict(line.data, "image/png", mode="line", group=line.group)
        if answer["model_version"] == version:
            return
        time.sleep(0.3)
    raise NotReady(f"version {version} is not served after {SERVED_WITHIN_S:.0f} s; see `redpencil status`")


def _compare(
    say: Say, what: str, lines: list[Line], before: dict[str, Reading], after: list[Reading]
) -> None:
    if lines:
        wanted = {line.truth for line in lines}
        old = [before[truth] for truth in wanted]
        new = [r for r in after if r.line.truth in wanted]
        say(f"   {len(lines)} lines of {what}: CER {_cer(old)} before, {_cer(new)} after")


def _cer(readings: list[Reading]) -> str:
    return f"{100 * cer([(r.line.truth, r.text) for r in readings]):.1f} %"
