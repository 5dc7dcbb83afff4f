"""What a run learns from and where it starts: fixed once, for the run's life."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from redpencil import checkpoints, snapshot
from redpencil.blobs import Blobs
from redpencil.bundle import Manifest
from redpencil.errors import BadInput, Conflict
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Run, Snapshot, Split, Task
from training import recipe
from training.hyper import Hyper, yes_or_no
from training.job import Job


def freeze(store: Store, run: Run, settings: Settings) -> Job:
    """The job of a run. The snapshot and the parent are chosen on first use and kept on the run."""
    chosen, blobs = recipe.find(run.recipe), Blobs.open(settings.blobs)
    if of := checkpoints.asked(run):  # what nobody corrected is what there was when that run was asked for
        run = replace(run, created_at=store.runs.get(of[0]).created_at)
    if run.snapshot is None:
        run = _choose(store, run, chosen, settings, blobs)
    assert run.snapshot is not None
    parent = run.params["parent"]
    version = store.versions.get(run.model, parent) if parent else None
    known, bundle = snapshot.learned(store, version), version.bundle if version else None
    hyper = chosen.hyper(run.params, manifest_of(store, run.model, parent, blobs))
    return Job(run, hyper, store.snapshots.get(run.snapshot), bundle, settings, frozenset(known))


def _reach(given: object) -> float:
    """How far from its parent a run may go, as it was asked for; BadInput where that is no share."""
    try:
        share = float(str(given))
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise BadInput(
            f"training parameter reach is a share of the way from the parent (0 < reach <= 1), not {given!r}"
        )
    return share


def checked(
    chosen: recipe.Recipe, params: Mapping[str, Any], made: Manifest | None, task: Task | None = None
) -> Hyper:
    """The hyper-parameters that a new run asks for; BadInput says what is wrong with one."""
    hyper = chosen.hyper(params, made, checked=True)
    chosen.check(hyper, _reach(params.get("reach", 1.0)), task)
    chosen.refuse(params, made)
    yes_or_no("doubt", params.get("doubt", True))
    return hyper


def start(
    store: Store, model: str, chosen: recipe.Recipe, params: Mapping[str, Any], blobs: Blobs
) -> str | None:
    """The version that a run goes on from: the one asked for, the champion, or none."""
    asked = params.get("parent")
    if asked == recipe.ANEW:
        return None
    return str(asked) if asked else champion(store, model, chosen, blobs)


def _choose(store: Store, run: Run, chosen: recipe.Recipe, settings: Settings, blobs: Blobs) -> Run:
    if checkpoints.ASKED in run.params:
        raise BadInput("a version of a checkpoint is made by `redpencil checkpoint RUN EPOCH`")
    task, parent = settings.task_of(run.model), start(store, run.model, chosen, run.params, blobs)
    made = manifest_of(store, run.model, parent, blobs)
    taught = bool(checked(chosen, run.params, made, task).unlabelled)
    params = {**run.params, "parent": parent}
    if run.params.get("teacher") and not taught:
        raise BadInput("a teacher reads lines that nobody corrected: say how many with unlabelled=NUMBER")
    if taught:
        params["teacher"] = params.get("teacher") or teacher(store, run.model, chosen, task)
        if params["teacher"] == parent:
            raise BadInput(f"version {parent} cannot teach a run that goes on from it; name a teacher")
    return store.runs.update(run.id, snapshot=to_learn_from(store, task).id, params=params)


def teacher(store: Store, model: str, chosen: recipe.Recipe, task: Task) -> str:
    """The version that reads for a run what nobody corrected: the champion."""
    if task is not Task.OCR:
        raise BadInput("unlabelled is for readers of lines; captioners learn from corrections alone")
    if chosen.starts_from == "champion":
        raise BadInput(f"recipe {chosen.name} goes on from the champion: it would learn its faults anew")
    version = store.serving.get(model).champion
    if version is None:
        raise Conflict(f"unlabelled lines are read by the champion, but model {model} has none yet")
    return version


def to_learn_from(store: Store, task: Task) -> Snapshot:
    """The corrections as they stand; BadInput where there is nothing to learn from."""
    taken = snapshot.take(store, task)
    if not taken.side(Split.TRAIN):
        raise BadInput(nothing_to_learn(len(taken.side(Split.HOLDOUT))))
    return taken


def champion(store: Store, model: str, chosen: recipe.Recipe, blobs: Blobs) -> str | None:
    """The version that a recipe goes on from; None where it starts from scratch."""
    if chosen.starts_from == "scratch":
        return None
    version = store.serving.get(model).champion
    if chosen.starts_from == "own":
        return version if version and recipe_of(store, model, version, blobs) == chosen.name else None
    if version is None:
        raise Conflict(
            f"recipe {chosen.name} goes on from the champion, but model {model} has none yet; start "
            "`redpencil up` once (it imports the base model) or name a version with --param parent=NUMBER"
        )
    made = recipe_of(store, model, version, blobs)
    if made and made != chosen.name:
        raise Conflict(
            f"recipe {chosen.name} cannot go on from the champion, version {version}, which is of "
            f"recipe {made}; train with that, or name a version of {chosen.name} with --param parent=NUMBER"
        )
    return version


def recipe_of(store: Store, model: str, version: str, blobs: Blobs) -> str | None:
    """The family of a version, as its bundle says."""
    made = manifest_of(store, model, version, blobs)
    return made.lineage.get("recipe") if made else None


def manifest_of(store: Store, model: str, version: str | None, blobs: Blobs) -> Manifest | None:
    """What the bundle of a version says of itself; None where there is no version to go on from."""
    return Manifest.from_json(blobs.get(store.versions.get(model, version).bundle)) if version else None


def nothing_to_learn(held: int) -> str:
    """Why a snapshot without a train line cannot be trained on, and what to do."""
    if held:
        return (
            f"all {held} corrections are of images that are held out for judging, none is left to learn "
            "from; correct lines of more images (about 4 of 5 are for learning)"
        )
    return "there are no corrections yet; correct some lines in the review queue or import them, then retrain"
