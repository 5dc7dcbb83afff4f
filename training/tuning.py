"""Which parameters suit these corrections? Trials by Ray Tune; MLflow shows one run with others inside."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator

from redpencil import snapshot
from redpencil.blobs import Blobs
from redpencil.errors import BadInput, RedpencilError
from redpencil.ids import new_id
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Run, RunState
from training import data, workers
from training.freeze import checked, manifest_of, start, to_learn_from
from training.hyper import Hyper
from training.job import Job
from training.recipe import ANEW, Recipe
from training.sweep_page import SweepPage
from training.sweep_trial import trial

log = logging.getLogger(__name__)

EXAMPLES = "lr=1e-4..1e-2, prefix=4..16 or batch=8,16"


@dataclass(frozen=True)
class Size:
    """Trials, and how many of them side by side (0: one a GPU, where there is none one a core)."""

    trials: int = 8
    at_once: int = 0

    def __post_init__(self) -> None:
        if self.trials < 1 or self.at_once < 0:
            raise BadInput(f"{self.trials} trials, {self.at_once} at once: there must be one at least")


@dataclass(frozen=True)
class Found:
    """How one trial went: its parameters, its best score (less is better), and the epochs it had."""

    params: Mapping[str, Any]
    score: float
    epochs: int


def sweep(
    family: Recipe,
    model: str,
    tries: Sequence[str],
    params: Mapping[str, Any],
    settings: Settings,
    size: Size,
) -> list[Found]:
    """Run the trials, all from one snapshot; returns them, the best first. Nothing is registered.

    Those that are worse than others after as many epochs are stopped early (ASHA: Li et al. 2020,
    arXiv 1810.05934). What is drawn goes by the seed in `params`. BadInput for parameters that the
    family does not know.
    """
    cores = os.cpu_count() or 1
    at_once = min(size.at_once or torch.cuda.device_count() or cores, size.trials)
    job = _job(family, model, params, settings, max(1, cores // at_once))
    drawn = space(tries, job.hyper, family)
    _refuse(drawn, job, family)
    _comparable(job)
    page = SweepPage(settings.mlflow, model)
    told = {"recipe": family.name, **dict(one.split("=", 1) for one in tries), **params}
    whole = page.begin(f"sweep-{job.run.id[-8:]}", told, job.snapshot)
    found: list[Found] = []
    try:
        with workers.cluster(settings), redirect_stdout(sys.stderr):  # there Tune says how far it is
            found = _ranked(_tuner(job, whole, drawn, size, at_once).fit())
        return found
    finally:
        shutil.rmtree(_folder(settings) / job.run.id, ignore_errors=True)
        try:
            page.end_trials(whole)
            page.end(whole, "FINISHED" if found else "KILLED", found[0].params if found else {})
        except RedpencilError as error:  # what was found is told all the same
            log.warning("MLflow does not know that the sweep is over: %s", error)


def space(tries: Iterable[str], hyper: Hyper, family: Recipe) -> dict[str, Any]:
    """What Tune draws from: of `a,b,c` one; of `low..high` evenly in the logarithm.

    Bounds that are whole draw whole numbers, evenly. BadInput for anything else.
    """
    found = dict(_domain(one) for one in tries)
    if not found:
        raise BadInput(f"say what to try, such as {EXAMPLES}")
    for name, domain in found.items():
        for value in getattr(domain, "categories", None) or [domain.sample()]:
            family.check(hyper.updated({name: value}), 1.0)
    return found


def _refuse(drawn: Mapping[str, Any], job: Job, family: Recipe) -> None:
    """BadInput for what no trial can do otherwise than another."""
    if "unlabelled" in drawn:
        raise BadInput("trials learn from corrections alone: unlabelled cannot be tried")
    if fixed := [name for name in drawn if job.parent and name in family.keeps]:
        raise BadInput(
            f"{fixed[0]} stays as it is in the version that trials go on from; leave it out, or let them "
            f"begin anew with --set parent={ANEW}"
        )


def _domain(one: str) -> tuple[str, Any]:
    name, _, values = one.partition("=")
    low, dots, high = values.partition("..")
    try:
        if not dots and name and values:
            return name, tune.choice(values.split(","))
        if low.isdigit() and high.isdigit():
            return name, tune.randint(int(low), int(high) + 1)
        return name, tune.loguniform(float(low), float(high))
    except ValueError as error:
        raise BadInput(f"{one!r} is nothing to try; write {EXAMPLES}") from error


def _job(family: Recipe, model: str, params: Mapping[str, Any], settings: Settings, threads: int) -> Job:
    """What all trials learn from and start from, by a run that is in no list."""
    blobs = Blobs.open(settings.blobs)
    with Store.open(settings.database) as store:
        parent = start(store, model, family, params, blobs)
        made = manifest_of(store, model, parent, blobs)
        version = store.versions.get(model, parent) if parent else None
        known, bundle = snapshot.learned(store, version), version.bundle if version else None
        taken = to_learn_from(store, settings.task_of(model))
        doubted = {c for c, doubt in store.doubts.latest().items() if doubt.left_out}
    hyper = checked(family, params, made)
    if hyper.unlabelled:
        raise BadInput("trials learn from corrections alone: leave unlabelled out")
    run = Run(new_id("sweep"), model, family.name, RunState.RUNNING, "sweep", time.time(), dict(params))
    alone = settings.model_copy(update={"train_threads": threads})
    return Job(run, hyper, taken, bundle, alone, frozenset(known), frozenset(doubted))


def _comparable(job: Job) -> None:
    """BadInput where nothing is set aside: then no trial can be told from another that learned longer."""
    if not job.lines(Blobs.open(job.settings.blobs)).validate:
        raise BadInput(
            "there is nothing to compare trials by: a sweep validates on documents that are set aside, "
            f"{data.FEWEST_ASIDE} of them at least, of {data.FEWEST_LINES} new lines or images. "
            "Correct more, or set more of them aside (--set validation=0.3)"
        )


def _tuner(job: Job, parent: str, drawn: Mapping[str, Any], size: Size, at_once: int) -> tune.Tuner:
    needs = resources(job.settings.train_threads, at_once)
    longest = 10_000  # epochs; a trial ends by itself
    asha = ASHAScheduler(time_attr="epoch", max_t=longest, reduction_factor=3)
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, job=job, parent=parent), needs),
        param_space=dict(drawn),
        tune_config=tune.TuneConfig(
            metric="score",
            mode="min",
            num_samples=size.trials,
            scheduler=asha,
            search_alg=BasicVariantGenerator(max_concurrent=at_once, random_state=job.hyper.seed),
        ),
        run_config=tune.RunConfig(name=job.run.id, storage_path=str(_folder(job.settings)), verbose=1),
    )


def resources(threads: int, at_once: int) -> dict[str, float]:
    """What Tune gives a trial: without a share of a GPU all of them would take the first one."""
    gpus = torch.cuda.device_count()
    return {"cpu": threads, **({"gpu": 1 / ceil(at_once / gpus)} if gpus else {})}


def _folder(settings: Settings) -> Path:
    return settings.home.absolute() / "sweeps"


def _ranked(results: tune.ResultGrid) -> list[Found]:
    """Trials that told of an epoch at least, the best first."""
    found = [
        Found(one.config, float(one.metrics_dataframe["score"].min()), int(one.metrics["epoch"]))
        for one in results
        if one.metrics and "score" in one.metrics
    ]
    if not found:
        raise RedpencilError(f"no trial came to an end; the first says: {next(iter(results.errors), '')}")
    return sorted(found, key=lambda f: f.score)
