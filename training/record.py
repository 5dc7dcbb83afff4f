"""What is on record of a version, or of a run that has trained: gathered for its card."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from redpencil.registry import Registry, answering
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Member, ModelVersion, Run, Snapshot, Split, Verdict


@dataclass(frozen=True)
class Record:
    """What is known of a version, or of a run that has trained."""

    run: Run | None
    version: ModelVersion | None
    snapshot: Snapshot | None
    verdict: Verdict | None
    history: Sequence[Mapping[str, Any]] = ()
    taught: Sequence[Member] = ()
    left_out: int = 0  # of those to learn from, as probably wrong
    authors: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, settings: Settings, name: str) -> Self:
        """By the id of a run, or as MODEL/VERSION; NotReady where MLflow is needed for it and away."""
        model, slash, number = name.rpartition("/")
        run = None if slash else store.runs.get(name)
        if run is not None:
            model, number = run.model, run.version or ""
        version = store.versions.get(model, number) if number else None
        if version is not None and run is None and version.run:
            run = store.runs.get(version.run)
        verdict = store.versions.verdict(model, number) if version else None
        named = version.snapshot if version else run and run.snapshot
        snapshot = store.snapshots.get(named) if named else None
        given = snapshot.side(Split.TRAIN) if snapshot else ()
        doubted = store.doubts.left_out(run.id) if run else frozenset()
        taught = [m for m in given if m.correction not in doubted]
        told = history(run, settings), taught, len(given) - len(taught), authors(store, taught)
        return cls(run, version, snapshot, verdict, *told)


def history(run: Run | None, settings: Settings) -> list[dict[str, Any]]:
    """A record per checkpoint: from the run's folder, or, when that is gone, from its page in MLflow."""
    if run is None:
        return []
    kept = settings.home / "runs" / run.id / "ended.json"
    if kept.exists():
        found: list[dict[str, Any]] = json.loads(kept.read_text("utf-8"))["history"]
        return found
    if run.mlflow_run is None:
        return []
    with tempfile.TemporaryDirectory() as scratch, answering(settings.mlflow):
        client = Registry(settings.mlflow).client
        told = client.download_artifacts(run.mlflow_run, "report/history.json", scratch)
        found = json.loads(Path(told).read_text("utf-8"))
        return found


def authors(store: Store, taught: Sequence[Member]) -> dict[str, int]:
    """Who said how much of what was learned from."""
    said = Counter(store.corrections.get(m.correction).author for m in taught)
    return dict(said.most_common())
