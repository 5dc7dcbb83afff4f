"""When to retrain: by cron expression, or after so many new corrections; each model by its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from croniter import croniter

from redpencil import checkpoints
from redpencil.errors import BadInput
from redpencil.ids import new_id
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Run, RunState, Task

WAITING = (RunState.QUEUED, RunState.RUNNING)
IN_VAIN = (RunState.FAILED, RunState.CANCELLED)
LEARNING = tuple(state for state in RunState if state not in IN_VAIN)
AGAIN_S = 3600.0
"""So long after a run has failed or was cancelled, corrections start no other."""


class Schedule:
    """Queues runs that nobody had to ask for. It decides by what is in the database, so restarts are fine."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        if settings.retrain_cron and not croniter.is_valid(settings.retrain_cron):
            raise BadInput(
                f"REDPENCIL_RETRAIN_CRON is no cron expression such as '0 3 * * *': {settings.retrain_cron!r}"
            )
        self._store, self._settings, self._clock = store, settings, clock
        self._since = clock()
        self._too_few: dict[str, tuple[str, int]] = {}

    def due(self, model: str) -> Run | None:
        """Queue a run where it is time for one, and none of the model is waiting or running."""
        if self._store.runs.list(model, WAITING, limit=1):
            return None
        trigger = self._cron(model) or self._count(model)
        return queue(self._store, model, usual_recipe(self._settings, model), trigger) if trigger else None

    def skipped(self, model: str) -> str:
        """Why the last time that came passed without a run; nothing where one was asked for since."""
        at, last = self._store.runs.skipped(model), self._store.runs.list(model, limit=1)
        passed = self._settings.retrain_cron and at and not (last and last[0].created_at > at)
        return "no new corrections since the last run" if passed else ""

    def new_corrections(self, model: str) -> int:
        """How many hold now that came since the last run froze what it learned from, or that it left out and
        a person confirmed."""
        return self._new(model, self._store.unlearned.count)

    def stated(self, model: str) -> int:
        """The same, those that were said anew meanwhile among them; quick, however many there are."""
        return self._new(model, self._store.unlearned.at_most)

    def _new(self, model: str, count: Callable[[Task, Run], int]) -> int:
        last, task = self._last(model), self._settings.task_of(model)
        if last is not None and last.snapshot is not None:
            return count(task, last)
        since = 0.0 if last is None else last.started_at or last.created_at
        return self._store.corrections.count_since(task, since)

    def next_at(self, model: str) -> float | None:
        """When the cron expression comes due next; None without one."""
        if not self._settings.retrain_cron:
            return None
        local = datetime.fromtimestamp(self._base(model)).astimezone()
        return float(croniter(self._settings.retrain_cron, local).get_next(datetime).timestamp())

    def _cron(self, model: str) -> str | None:
        """A time that came for nothing has passed for good; one that nobody was there for is caught up."""
        at = self.next_at(model)
        if at is None or at > self._clock():
            return None
        if self.new_corrections(model):
            return "cron"
        self._store.runs.skip(model, self._clock())
        return None

    def _count(self, model: str) -> str | None:
        wanted, last = self._settings.retrain_after, self._last(model, list(RunState))
        if last and last.state in IN_VAIN and self._clock() - (last.finished_at or 0) < AGAIN_S:
            return None
        return "corrections" if wanted and self._reaches(model, wanted) else None

    def _reaches(self, model: str, wanted: int) -> bool:
        """Whether so many are new; too few are not counted again before something else is said."""
        last, stated = self._last(model), self.stated(model)
        seen = (last.id if last else "", stated)
        if stated < wanted or self._too_few.get(model) == seen:
            return False
        if self.new_corrections(model) >= wanted:
            return True
        self._too_few[model] = seen
        return False

    def _base(self, model: str) -> float:
        """From when on the next due time counts: the last that came, else since this process watches."""
        came = [run.created_at for run in self._store.runs.list(model, trigger="cron", limit=1)]
        skipped = self._store.runs.skipped(model)
        return max(came if skipped is None else [*came, skipped], default=self._since)

    def _last(self, model: str, states: Sequence[RunState] = LEARNING) -> Run | None:
        """The last that learned or is about to: what one in vain has seen is still new."""
        return next(iter(self._store.runs.list(model, states, limit=1, besides=checkpoints.ASKED)), None)


def usual_recipe(settings: Settings, model: str) -> str:
    """What a model is trained by where nobody says otherwise."""
    return settings.caption_recipe if settings.task_of(model) is Task.CAPTION else settings.recipe


def queue(
    store: Store,
    model: str,
    recipe: str,
    trigger: str,
    params: dict[str, object] | None = None,
    snapshot: str | None = None,
) -> Run:
    """Add a run; it starts as soon as no other is running and none older waits. `snapshot`: what it
    learns from, else the corrections as they stand when it starts."""
    now, state = time.time(), RunState.QUEUED
    run = Run(new_id("run"), model, recipe, state, trigger, now, params or {}, snapshot=snapshot)
    store.runs.add(run)
    return run
