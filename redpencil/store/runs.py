"""Training runs: a queue per model, of which one at a time is worked on."""

from __future__ import annotations

import builtins
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, select, update
from sqlalchemy.exc import IntegrityError

from redpencil.errors import BadInput, Conflict, NotFound
from redpencil.store import schema
from redpencil.store.database import Database
from redpencil.types import Run, RunState

_table, _skips = schema.runs, schema.skips
_FIELDS = {field.name for field in fields(Run)} - {"id", "model"}


class Runs:
    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, run: Run) -> None:
        with self._db.write() as connection:
            connection.execute(
                _table.insert(), asdict(run) | {"state": run.state.value, "cancel_requested": False}
            )

    def get(self, id: str) -> Run:
        with self._db.read() as connection:
            return _run(_row(connection, id))

    def list(
        self,
        model: str | None = None,
        states: Sequence[RunState] | None = None,
        after: str | None = None,
        limit: int = 50,
        trigger: str | None = None,
        besides: str | None = None,
    ) -> list[Run]:
        """Newest first; `after` is the last id of the page before, `trigger` what started them, and
        `besides` what did not."""
        query = select(_table).order_by(_table.c.id.desc()).limit(limit)
        if model is not None:
            query = query.where(_table.c.model == model)
        if states is not None:
            query = query.where(_table.c.state.in_([state.value for state in states]))
        if trigger is not None:
            query = query.where(_table.c.trigger == trigger)
        if besides is not None:
            query = query.where(_table.c.trigger != besides)
        if after is not None:
            query = query.where(_table.c.id < after)
        with self._db.read() as connection:
            return [_run(row) for row in connection.execute(query)]

    def of_snapshot(self, id: str) -> builtins.list[Run]:
        """The runs that trained on a snapshot, oldest first."""
        query = select(_table).where(_table.c.snapshot == id).order_by(_table.c.id)
        with self._db.read() as connection:
            return [_run(row) for row in connection.execute(query)]

    def update(self, id: str, **fields: Any) -> Run:
        """Set fields of a run; `progress` and `params` are replaced whole."""
        unknown = sorted(fields.keys() - _FIELDS)
        if unknown:
            raise BadInput(f"A run has no field {unknown[0]!r} that can be set.")
        try:
            with self._db.write() as connection:
                if fields:
                    connection.execute(update(_table).where(_table.c.id == id).values(fields))
                return _run(_row(connection, id))
        except IntegrityError as error:
            raise Conflict(f"Run {id} cannot run now: another run of its model is running.") from error

    def claim_next(self, model: str) -> Run | None:
        """Set the oldest queued run running and return it; None where one is running or none waits.

        Starts its clock (kept over interruptions) and counts the attempt. Of several callers one wins.
        """
        mine = _table.c.model == model
        oldest = and_(mine, _table.c.state == RunState.QUEUED.value)
        running = select(_table.c.id).where(mine, _table.c.state == RunState.RUNNING.value)
        with self._db.write(alone=f"runs:{model}") as connection:
            if connection.execute(running.limit(1)).first() is not None:
                return None
            order = (_table.c.created_at, _table.c.id)
            row = connection.execute(select(_table).where(oldest).order_by(*order).limit(1)).one_or_none()
            if row is None:
                return None
            now = {"state": RunState.RUNNING.value, "attempts": row.attempts + 1, "pid": None}
            now["started_at"] = row.started_at or time.time()
            connection.execute(update(_table).where(_table.c.id == row.id).values(now))
            return _run(_row(connection, row.id))

    def cancel(self, id: str) -> Run:
        """Stop a run: at once where it waits; a running one is asked to, and shows progress["cancel"]."""
        with self._db.write() as connection:
            state = RunState(_row(connection, id).state)
            if state.final:
                raise Conflict(f"Run {id} is over ({state.value}); there is nothing to cancel.")
            # In the order in which a run goes: one that is claimed meanwhile is met as running.
            over = {"state": RunState.CANCELLED.value, "finished_at": time.time()}
            _set(connection, _is(id, RunState.QUEUED), cancel_requested=True, **over)
            _set(connection, _is(id, RunState.RUNNING), cancel_requested=True)
            return _run(_row(connection, id))

    def again(self, id: str) -> Run:
        """Queue a failed run once more, with all its attempts, whoever had asked it to stop before."""
        fresh = {"state": RunState.QUEUED.value, "attempts": 0, "error": None, "finished_at": None}
        with self._db.write() as connection:
            state = RunState(_row(connection, id).state)
            if state is not RunState.FAILED:
                raise Conflict(f"Run {id} is {state.value}; only a failed run can be resumed.")
            _set(connection, _is(id, RunState.FAILED), cancel_requested=False, **fresh)
            return _run(_row(connection, id))

    def skip(self, model: str, at: float) -> None:
        """Say that a time for a run came and there was nothing to learn; the last such time is kept."""
        row = {"model": model, "at": at}
        insert = self._db.insert(_skips).values(row)
        with self._db.write() as connection:
            connection.execute(insert.on_conflict_do_update(index_elements=[_skips.c.model], set_=row))

    def skipped(self, model: str) -> float | None:
        """When that was last; None where it never was."""
        with self._db.read() as connection:
            return connection.execute(select(_skips.c.at).where(_skips.c.model == model)).scalar()

    def cancel_requested(self, id: str) -> bool:
        with self._db.read() as connection:
            return bool(_row(connection, id).cancel_requested)


def _is(id: str, state: RunState) -> ColumnElement[bool]:
    return and_(_table.c.id == id, _table.c.state == state.value)


def _set(connection: Connection, where: ColumnElement[bool], **values: Any) -> None:
    connection.execute(update(_table).where(where).values(values))


def _row(connection: Connection, id: str) -> Row[Any]:
    row = connection.execute(select(_table).where(_table.c.id == id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no run {id}.")
    return row


def _run(row: Row[Any]) -> Run:
    values = dict(row._mapping)
    asked = values.pop("cancel_requested")
    state = RunState(row.state)
    if asked and not state.final:
        values["progress"] = {**row.progress, "cancel": True}
    return Run(**values | {"state": state})
