"""A training run's page in MLflow. Everything can be told twice, so whatever was missed is told again."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from redpencil import patience
from redpencil.errors import Busy, NotReady
from redpencil.registry import Registry, answering
from redpencil.types import Snapshot
from training.job import Job

log = logging.getLogger(__name__)

RUN_TAG = "redpencil.run"
MARKS = ("loss", "cer", "grapheme_cer", "wer", "exact", "bleu4", "rouge_l", "cider_d")
NAMES = {name: f"train/{name}" for name in ("loss", "lr", "lines_per_s")}
NAMES |= {f"val_{name}": f"validation/{name}" for name in MARKS}
NAMES |= {f"heart_{name}": f"by_heart/{name}" for name in MARKS}
PATIENCE_S = 60.0
"""How long a run waits for a part that has gone away, from where it first notices."""
AGAIN = "Resume in the console, or POST /v1/training-runs/RUN_ID/resume, goes on from here"
METRICS_PER_CALL = 1000  # MLflow's limit
CONTEXT = InputTag("mlflow.data.context", "training")

T = TypeVar("T")


class Page:
    """One MLflow run per training run, found again by its tag after any restart.

    Raises NotReady where MLflow is down; nothing is lost by calling again later.
    """

    def __init__(self, job: Job, timeout_s: int = 30) -> None:
        self.job, self.url = job, job.settings.mlflow
        self.registry = Registry(self.url, timeout_s)

    @property
    def client(self) -> MlflowClient:
        return self.registry.client

    @cached_property
    def id(self) -> str:
        """The MLflow run's id; the run is made, with parameters and dataset, on first use."""
        with answering(self.url):
            run = self._find() or self._make()
            self._describe(run)
            return run

    def history(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Log every epoch's numbers, each at the moment it was measured."""
        log_history(self.registry, self.id, records)

    def scores(self, scores: Mapping[str, Any], at: float) -> None:
        """Log the numbers of a verdict as gate/SLICE/NAME."""
        metrics = [Metric(f"gate/{k}", v, round(at * 1000), 0) for k, v in numbers(scores).items()]
        with answering(self.url):
            self.client.log_batch(self.id, metrics=metrics)

    def tags(self, tags: Mapping[str, str]) -> None:
        with answering(self.url):
            self.client.log_batch(self.id, tags=[RunTag(key, value) for key, value in tags.items()])

    def file(self, name: str, content: str | bytes) -> None:
        """Keep a report file where the run's artifacts are shown."""
        with answering(self.url), tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, Path(name).name)
            path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
            self.client.log_artifact(self.id, str(path), str(Path(name).parent))

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"], why: str = "") -> None:
        with answering(self.url):
            if why:
                self.client.set_tag(self.id, "redpencil.error", why[:5000])
            self.client.set_terminated(self.id, status)

    def _find(self) -> str | None:
        experiment = self.registry.experiment(self.job.run.model)
        found = self.client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{self.job.run.id}'")
        if not found:
            return None
        run = found[0].info
        if run.status != "RUNNING":
            self.client.update_run(run.run_id, status="RUNNING")
        return str(run.run_id)

    def _make(self) -> str:
        run = self.job.run
        tags = {RUN_TAG: run.id, "recipe": run.recipe, "snapshot": self.job.snapshot.id}
        tags |= {"trigger": run.trigger, "parent": str(run.params.get("parent", ""))}
        experiment = self.registry.experiment(run.model)
        name = f"{run.recipe}-{run.id[-8:]}"  # a long one hides the aliases on MLflow's version page
        return str(self.client.create_run(experiment, run_name=name, tags=tags).info.run_id)

    def _describe(self, run: str) -> None:
        known = self.client.get_run(run).data.params
        params = {"recipe": self.job.run.recipe, **self.job.suited.to_dict()}
        missing = [Param(k, str(v)) for k, v in params.items() if k not in known]
        self.client.log_batch(run, params=missing)
        self.client.log_inputs(run, [DatasetInput(dataset(self.job.snapshot), [CONTEXT])])


def log_history(registry: Registry, run: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Log the numbers of epochs, each at the moment it was measured."""
    metrics = [
        Metric(NAMES[key], value, round(record["at"] * 1000), record["step"])
        for record in records
        for key, value in record.items()
        if key in NAMES
    ]
    with answering(registry.url):
        for start in range(0, len(metrics), METRICS_PER_CALL):
            registry.client.log_batch(run, metrics=metrics[start : start + METRICS_PER_CALL])


def dataset(snapshot: Snapshot) -> Dataset:
    """A snapshot as MLflow lists datasets; the digest is its id's first 32 digits (36 are the limit)."""
    profile = {
        "corrections": len(snapshot.members),
        "groups": len({m.group for m in snapshot.members}),
        **{split: sum(m.split == split for m in snapshot.members) for split in ("train", "holdout")},
    }
    source = json.dumps({"snapshot": snapshot.id})
    return Dataset("corrections", snapshot.id[:32], "redpencil", source, profile=json.dumps(profile))


def numbers(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Every finite number in nested dictionaries, by its path."""
    found: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)):
            found[f"{prefix}{key}"] = float(value)
    return found


def patiently(call: Callable[[], T]) -> T:
    """As `patience.patiently`, for `PATIENCE_S`; then the error says what is kept and how to go on."""
    try:
        return patience.patiently(call, PATIENCE_S)
    except (Busy, NotReady) as error:
        raise NotReady(f"{error}. What the run has done is kept: {AGAIN}") from error
