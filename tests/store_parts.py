"""Small nouns for tests of the store: every field has a value, the ones that matter are given."""

from __future__ import annotations

import functools
import hashlib
import itertools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event

from redpencil.store import Store
from redpencil.types import (
    Block,
    Correction,
    Experiment,
    Image,
    Kind,
    LedgerEntry,
    ModelVersion,
    Outcome,
    Page,
    Polygon,
    Precision,
    Prediction,
    Run,
    RunState,
    Task,
    Variant,
    Verdict,
)

_counter = itertools.count()


@functools.cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "redpencil.db"
        Store.open(f"sqlite:///{path}", migrate=True).close()
        return path.read_bytes()


def new_database(folder: Path) -> None:
    """A database of its own in the folder, copied: migrating for every test would take most of its time."""
    (folder / "redpencil.db").write_bytes(_empty_database())


def new_store(folder: Path) -> Store:
    """The same, opened."""
    new_database(folder)
    return Store.open(f"sqlite:///{folder / 'redpencil.db'}")


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """The statements that are sent to the database meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


def _next_id(prefix: str) -> str:
    """Like ids.new_id, but in order even within a millisecond."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}_{next(_counter):016x}"


def box(y: float = 0.0, height: float = 20.0) -> Polygon:
    return ((0.0, y), (100.0, y), (100.0, y + height), (0.0, y + height))


def image(name: str, group: str | None = None) -> Image:
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    return Image(sha256, group or sha256, "image/png", time.time())


def block(n: int = 0, text: str = "teh", confidence: float = 0.9) -> Block:
    return Block(f"p0-b{n}", 0, box(n * 25.0), text, confidence, (confidence,) * len(text))


def prediction(of: Image, **given: Any) -> Prediction:
    fields: dict[str, Any] = {
        "id": _next_id("pred"),
        "created_at": time.time(),
        "image": of.sha256,
        "task": Task.OCR,
        "model": "ocr",
        "version": "1",
        "variant": Variant.CHAMPION,
        "pages": (Page(0, 640, 480),),
        "blocks": (block(),),
        "latency_ms": 12.5,
    }
    return Prediction(**fields | given)


def correction(of: Image, text: str = "the", **given: Any) -> Correction:
    fields: dict[str, Any] = {
        "id": _next_id("corr"),
        "created_at": time.time(),
        "task": Task.OCR,
        "image": of.sha256,
        "group": of.group,
        "page": 0,
        "polygon": box(),
        "text": text,
        "kind": Kind.CORRECT,
        "author": "ann",
    }
    return Correction(**fields | given)


def about(p: Prediction, of: Image, b: Block | None = None, **given: Any) -> Correction:
    """A correction of a block of a prediction."""
    b = b or p.blocks[0]
    fields: dict[str, Any] = {"prediction": p.id, "region": b.id, "polygon": b.polygon, "predicted": b.text}
    fields |= {"model": p.model, "version": p.version, "variant": p.variant.value}
    return correction(of, **fields | given)


def run(model: str = "ocr", **given: Any) -> Run:
    return Run(
        **{
            "id": _next_id("run"),
            "model": model,
            "recipe": "ppocr",
            "state": RunState.QUEUED,
            "trigger": "test",
            "created_at": time.time(),
            **given,
        }
    )


def version(number: str, **given: Any) -> ModelVersion:
    return ModelVersion(
        **{"model": "ocr", "version": number, "bundle": f"bundle-{number}", "created_at": 1.0, **given}
    )


def verdict(outcome: Outcome = Outcome.PASSED, **given: Any) -> Verdict:
    fields: dict[str, Any] = {"outcome": outcome, "reasons": ("as good",), "precision": Precision.INT8}
    return Verdict(**fields | {"scores": {"golden": {"cer": 0.01}}, "items": {"corr_1": "fixed"}} | given)


def entry(action: str = "promote", **given: Any) -> LedgerEntry:
    fields: dict[str, Any] = {"id": _next_id("led"), "at": time.time(), "who": "ann"}
    fields |= {"action": action, "model": "ocr", "from_version": "1", "to_version": "2", "why": "better"}
    return LedgerEntry(**fields | given)


def experiment(**given: Any) -> Experiment:
    fields: dict[str, Any] = {"id": _next_id("exp"), "model": "ocr", "champion": "1", "challenger": "2"}
    return Experiment(**fields | {"started_at": time.time(), "started_by": "ann"} | given)
