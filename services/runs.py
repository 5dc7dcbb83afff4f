"""Training runs over HTTP: ask for one, follow it, stop it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from redpencil import checkpoints
from redpencil.errors import BadInput, Conflict
from redpencil.settings import Settings
from redpencil.snapshot import outdated
from redpencil.types import Run, RunState, Task
from services import logs
from services.bodies import NewRun
from services.house import Here, House
from services.once import Answer, Once, OnceOnly
from services.schedule import queue, usual_recipe
from services.views import of_run, page_of

router = APIRouter(prefix="/v1/training-runs", tags=["training"])
FIRST = {
    Task.OCR: "correct some lines first",
    Task.CAPTION: "correct some captions first, or import some that were written elsewhere",
}
RECIPES = Path(__file__).parent.parent / "training" / "recipes"


@router.post("", status_code=202)
def start(body: NewRun, house: Here, once: OnceOnly) -> Response:
    """Queue a run; the answer comes at once. One run goes on at a time, others wait."""
    return once(lambda: _queued(house, body, once))


def _queued(house: House, body: NewRun, once: Once) -> Answer:
    model = house.known(body.model)
    recipe = body.recipe or usual_recipe(house.settings, model)
    there = recipes()
    if there and recipe not in there:
        raise BadInput(f"there is no recipe {recipe!r}; there are {', '.join(there)}")
    task = house.settings.task_of(model)
    if not house.store.corrections.count_since(task, 0):
        raise Conflict(f"there are no corrections to learn from yet; {FIRST[task]}")
    with once.transaction() as answered:
        run = queue(house.store, model, recipe, "api", dict(body.params))
        return answered(202, of_run(run, house.settings.mlflow))


@router.get("")
def list_runs(
    house: Here,
    model: str | None = None,
    state: Annotated[list[RunState] | None, Query()] = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """Newest first; `next` is the cursor of the next page."""
    found = house.store.runs.list(model, state, after, limit + 1)
    return page_of([of_run(r, house.settings.mlflow) for r in found], limit)


@router.get("/recipes")
def list_recipes(house: Here) -> dict[str, Any]:
    """The recipes that a run may name, and which of them each model is trained by where none is named."""
    return {"recipes": recipes(), "usual": {m: usual_recipe(house.settings, m) for m in house.models}}


@router.get("/{id}")
def one(id: str, house: Here) -> dict[str, Any]:
    """State, phase, progress and the seconds left; with `links` to MLflow."""
    run = house.store.runs.get(id)
    ahead = _ahead(house, run) if run.state is RunState.QUEUED else None
    return of_run(run, house.settings.mlflow) | {"queue": ahead}


@router.get("/{id}/log")
def log(id: str, house: Here) -> dict[str, Any]:
    """The end of what the run's process said."""
    house.store.runs.get(id)
    return {"log": logs.last_words(house.scheduler.log_of(id), lines=60, longest=8000)}


@router.post("/{id}/cancel")
def cancel(id: str, house: Here) -> dict[str, Any]:
    """A waiting run is over at once; a running one is asked to stop, and made to after a while."""
    return of_run(house.store.runs.cancel(id), house.settings.mlflow)


@router.get("/{id}/checkpoints")
def checkpoints_of(id: str, house: Here) -> dict[str, Any]:
    """The checkpoints that outlive a run: epoch, step, hyper-parameters and what was measured of each."""
    house.store.runs.get(id)
    return {"items": checkpoints.kept(house.settings, id)}


@router.post("/{id}/checkpoints/{epoch}", status_code=202)
def to_version(id: str, epoch: int, house: Here, once: OnceOnly) -> Response:
    """Queue a run that makes a version of a checkpoint: exported, judged, to be asked for and promoted."""
    return once(lambda: _of_checkpoint(house, id, epoch, once))


def _of_checkpoint(house: House, id: str, epoch: int, once: Once) -> Answer:
    run = house.store.runs.get(id)
    params = checkpoints.to_version(house.settings, run, epoch)
    with once.transaction() as answered:
        made = queue(house.store, run.model, run.recipe, checkpoints.ASKED, params, run.snapshot)
        return answered(202, of_run(made, house.settings.mlflow))


@router.post("/{id}/resume", status_code=202)
def resume(id: str, house: Here, once: OnceOnly) -> Response:
    """Queue a failed run again; it goes on from its last finished step and checkpoint.

    409 where it has not failed, or would learn what has been revoked or corrected anew meanwhile.
    """
    return once(lambda: _requeued(house, id, once))


def _requeued(house: House, id: str, once: Once) -> Answer:
    run = house.store.runs.get(id)
    if run.state is RunState.FAILED and (gone := outdated(house.store, run)):
        raise Conflict(
            f"run {id} would learn from corrections that were revoked or corrected anew since it began "
            f"({len(gone)} of them, such as {gone[0]}); start a new run, which learns from what counts now"
        )
    with once.transaction() as answered:
        return answered(202, of_run(house.store.runs.again(id), house.settings.mlflow))


def recipes() -> list[str]:
    """By file name: training itself, with its torch, is another room. Empty where it is not installed.

    Your own families are in the folders of the setting `recipes`.
    """
    folders = (RECIPES, *(Path(folder) for folder in Settings().recipes.split(os.pathsep) if folder))
    return sorted({path.stem for folder in folders for path in folder.glob("[a-z]*.py")})


def _ahead(house: House, run: Run) -> int:
    """How many runs, of any model, come before a waiting one."""
    open_ = house.store.runs.list(states=[RunState.QUEUED, RunState.RUNNING], limit=200)
    return sum(
        other.model in house.models
        and (other.state is RunState.RUNNING or (other.created_at, other.id) < (run.created_at, run.id))
        for other in open_
    )
