"""Training runs over HTTP: ask for one, follow it, stop it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from redpencil.errors import BadInput, Conflict
from redpencil.types import RunState
from services import leash
from services.bodies import NewRun
from services.house import Here, House
from services.once import Answer, OnceOnly
from services.schedule import queue
from services.tasks import task_of
from services.views import of_run, page_of

router = APIRouter(prefix="/v1/training-runs", tags=["training"])
RECIPES = Path(__file__).parent.parent / "training" / "recipes"


@router.post("", status_code=202)
def start(body: NewRun, house: Here, once: OnceOnly) -> Response:
    """Queue a run; the answer comes at once. One run per model goes on at a time, others wait."""
    return once(lambda: _queued(house, body))


def _queued(house: House, body: NewRun) -> Answer:
    model, recipe = house.known(body.model), body.recipe or house.settings.recipe
    there = recipes()
    if there and recipe not in there:
        raise BadInput(f"there is no recipe {recipe!r}; there are {', '.join(there)}")
    if not house.store.corrections.count_since(task_of(model), 0):
        raise Conflict("there are no corrections to learn from yet; correct some lines first")
    run = queue(house.store, model, recipe, "api", dict(body.params))
    return 202, of_run(run, house.settings.mlflow)


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
def list_recipes() -> dict[str, Any]:
    """The recipes that a run may name."""
    return {"recipes": recipes()}


@router.get("/{id}")
def one(id: str, house: Here) -> dict[str, Any]:
    """State, phase, progress and the seconds left; with `links` to MLflow."""
    view = of_run(house.store.runs.get(id), house.settings.mlflow)
    return view | {"queue": _ahead(house, id) if view["state"] == "queued" else None}


@router.get("/{id}/log")
def log(id: str, house: Here) -> dict[str, Any]:
    """The end of what the run's process said."""
    house.store.runs.get(id)
    return {"log": leash.last_words(house.scheduler.log_of(id), lines=60, longest=8000)}


@router.post("/{id}/cancel")
def cancel(id: str, house: Here) -> dict[str, Any]:
    """A waiting run is over at once; a running one is asked to stop, and made to after a while."""
    return of_run(house.store.runs.cancel(id), house.settings.mlflow)


@router.post("/{id}/resume", status_code=202)
def resume(id: str, house: Here, once: OnceOnly) -> Response:
    """Queue a failed run again; it goes on from its last finished step and checkpoint."""
    return once(lambda: _requeued(house, id))


def _requeued(house: House, id: str) -> Answer:
    run = house.store.runs.get(id)
    if run.state is not RunState.FAILED:
        raise Conflict(f"{id} is {run.state.value}; only a failed run can be resumed")
    again = house.store.runs.update(id, state=RunState.QUEUED, attempts=0, error=None, finished_at=None)
    return 202, of_run(again, house.settings.mlflow)


def recipes() -> list[str]:
    """By file name: training itself, with its torch, is another room. Empty where it is not installed."""
    return sorted(path.stem for path in RECIPES.glob("[a-z]*.py"))


def _ahead(house: House, id: str) -> int:
    model = house.store.runs.get(id).model
    waiting = house.store.runs.list(model, [RunState.QUEUED, RunState.RUNNING], limit=200)
    return sum(other.id < id for other in waiting)
