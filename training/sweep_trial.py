"""One trial of a sweep: the loop as a run has it, which keeps no checkpoint and tells Tune of every epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from ray import tune

from redpencil.blobs import Blobs
from redpencil.errors import RedpencilError
from training.device import own_device
from training.job import Job
from training.loop import Loop
from training.place import State
from training.sweep_page import SweepPage


def trial(config: Mapping[str, Any], job: Job, parent: str) -> None:
    """Train with the parameters of `config` instead of the job's, to the end or until Tune stops it."""
    mine = replace(job, hyper=job.hyper.updated(config))
    torch.set_num_threads(job.settings.train_threads or 1)
    page, blobs = SweepPage(job.settings.mlflow, job.run.model), Blobs.open(job.settings.blobs)
    name = ", ".join(f"{k}={_short(v)}" for k, v in config.items())
    run = page.begin(name, mine.suited.to_dict(), job.snapshot, parent)
    lines, watcher = mine.lines(blobs), TrialWatcher(page, run)
    ended = Loop(mine.suited, mine.build(blobs, lines), lines, watcher, TrialPlace(watcher)).run()
    page.end(run, "FINISHED" if ended.how == "done" else "FAILED")
    if ended.how != "done":
        raise RedpencilError(ended.why)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass
class TrialWatcher:
    """Tells MLflow of every epoch; a `training.loop.Watcher`."""

    page: SweepPage
    run: str
    sent: int = 0

    def step(self, progress: dict[str, Any]) -> bool:
        return False

    def epoch(self, history: list[dict[str, Any]]) -> None:
        self.page.epochs(self.run, history[self.sent :])
        self.sent = len(history)


class TrialPlace:
    """A process of Tune's, alone; it begins anew each time. A `training.place.Place`."""

    rank, world = 0, 1

    def __init__(self, watcher: TrialWatcher) -> None:
        self.device = own_device()
        self.watcher = watcher

    def latest(self) -> None:
        return None

    def keep(self, state: Callable[[], State], score: float, epoch: int, best: bool) -> None:
        self.watcher.page.score(self.watcher.run, score, epoch)
        tune.report({"score": score, "epoch": epoch})
