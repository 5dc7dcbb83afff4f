"""A worker of Ray Train that dies in the middle of a run, and what of the run must not show it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from redpencil.blobs import Blobs
from training import cycle
from training.freeze import freeze
from training.job import Ended, Job, Lines
from training.learner import Learner

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests


@dataclass(frozen=True)
class Doomed(Job):
    """A job whose worker is killed once: in its fourth epoch, when Ray knows of a checkpoint.

    Ray hears of a checkpoint when it asks next, and quick runs are over by then: the worker waits
    for it, and raises the signal itself.
    """

    @classmethod
    def of(cls, job: Job) -> Doomed:
        return cls(**{f.name: getattr(job, f.name) for f in fields(job)})

    @property
    def killed(self) -> Path:
        """Written when it happens."""
        return self.settings.home / f"killed-{self.run.id}"

    def build(self, blobs: Blobs, lines: Lines) -> Learner:
        model = super().build(blobs, lines)
        batches = count(1)
        fourth = 3 * self.hyper.report_every * self.hyper.accumulate + 1

        def die(module: Learner, _: Any) -> None:
            if module.training and next(batches) == fourth and not self.killed.exists():
                self._wait_for_ray()
                self.killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        model.register_forward_pre_hook(die)
        return model

    def _wait_for_ray(self) -> None:
        """Until Ray has written down what it would go on from."""
        noted = Path(self.settings.storage, self.run.id, "checkpoint_manager_snapshot.json")
        deadline = time.monotonic() + 60
        while not noted.exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def went_on(self, ended: Ended) -> bool:
        """Whether the worker was killed and the run went on from a checkpoint of before."""
        moment = self.killed.stat().st_mtime
        return ended.history[1]["at"] < moment < ended.history[-1]["at"]


@contextmanager
def a_lost_worker() -> Iterator[list[Doomed]]:
    """Every cycle meanwhile loses a worker; the jobs, as they were frozen."""
    jobs: list[Doomed] = []

    def frozen(*given: Any) -> Doomed:
        jobs.append(Doomed.of(freeze(*given)))
        return jobs[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cycle, "freeze", frozen)
        yield jobs


def numbers(ended: Ended) -> list[dict[str, Any]]:
    """What must be equal: everything but the clock."""
    assert ended.how == "done", ended.why
    return [{k: v for k, v in r.items() if k not in ("at", "lines_per_s")} for r in ended.history]
