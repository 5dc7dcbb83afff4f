"""A sweep in MLflow: a run for the whole of it, and a nested one for every trial."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mlflow.entities import DatasetInput, Metric, Param

from redpencil.registry import Registry, answering
from redpencil.types import Snapshot
from training.track import CONTEXT, dataset, log_history

PARENT = "mlflow.parentRunId"
"""The tag by which MLflow shows one run inside another."""

Status = Literal["FINISHED", "FAILED", "KILLED"]


class SweepPage:
    """Raises NotReady where MLflow is down."""

    def __init__(self, url: str, model: str) -> None:
        self.registry, self.model = Registry(url, timeout_s=30), model

    def begin(self, name: str, params: Mapping[str, Any], snapshot: Snapshot, parent: str = "") -> str:
        """Make the run of a sweep, or of a trial inside `parent`; returns its id."""
        client = self.registry.client
        with answering(self.registry.url):
            experiment = self.registry.experiment(self.model)
            tags = {"trigger": "sweep", "snapshot": snapshot.id} | ({PARENT: parent} if parent else {})
            run = str(client.create_run(experiment, run_name=name, tags=tags).info.run_id)
            client.log_batch(run, params=[Param(k, str(v)) for k, v in params.items()])
            client.log_inputs(run, [DatasetInput(dataset(snapshot), [CONTEXT])])
            return run

    def epochs(self, run: str, records: Sequence[Mapping[str, Any]]) -> None:
        log_history(self.registry, run, records)

    def score(self, run: str, score: float, step: int) -> None:
        """What trials are compared by; less is better."""
        with answering(self.registry.url):
            self.registry.client.log_batch(run, [Metric("score", score, round(time.time() * 1000), step)])

    def end(self, run: str, status: Status, params: Mapping[str, Any] | None = None) -> None:
        with answering(self.registry.url):
            told = [Param(f"best/{k}", str(v)) for k, v in (params or {}).items()]
            self.registry.client.log_batch(run, params=told)
            self.registry.client.set_terminated(run, status)

    def end_trials(self, parent: str) -> None:
        """Trials that still count as running were stopped early: others were better."""
        with answering(self.registry.url):
            experiment = self.registry.experiment(self.model)
            inside = f"tags.`{PARENT}` = '{parent}' and attributes.status = 'RUNNING'"
            for run in self.registry.client.search_runs([experiment], inside):
                self.registry.client.set_terminated(run.info.run_id, "KILLED")
