"""Which corrections are new after a run: what the next one would learn from for the first time."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, union

from redpencil.store import schema
from redpencil.store.corrections import Corrections, count_live
from redpencil.store.database import Database
from redpencil.types import Run, Split, Task

_corrections, _members = schema.corrections, schema.snapshot_members
_doubts, _confirmations = schema.doubts, schema.confirmations


class Unlearned:
    """New after a run that has its snapshot is what was stored after the last correction of that, however
    old it is, and what the run left out and a person confirmed."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._ends: dict[str, int] = {}

    def count(self, task: Task, run: Run) -> int:
        """How many hold now: of several for one place the latest, none revoked."""
        with self._db.read() as connection:
            ids = [select(_corrections.c.id).where(one) for one in self._new(connection, task, run)]
        return len(Corrections(self._db).current(task, union(*ids)))

    def at_most(self, task: Task, run: Run) -> int:
        """How many are not revoked, what was said anew since among them: never fewer, and quick."""
        with self._db.read() as connection:
            return sum(count_live(connection, one) for one in self._new(connection, task, run))

    def _new(self, connection: Connection, task: Task, run: Run) -> tuple[ColumnElement[bool], ...]:
        """The two ways to be new; no correction is so in both."""
        end = self._end(connection, str(run.snapshot))
        later = and_(_corrections.c.task == task.value, _corrections.c.n > end)
        return later, _corrections.c.id.in_(_confirmed_after_all(run))

    def _end(self, connection: Connection, snapshot: str) -> int:
        """The number of the last correction in a snapshot, looked up once: it stays what it is."""
        if snapshot not in self._ends:
            same = _members.c.correction == _corrections.c.id
            last = select(func.coalesce(func.max(_corrections.c.n), 0)).join(_members, same)
            found = connection.execute(last.where(_members.c.snapshot == snapshot))
            self._ends[snapshot] = found.scalar_one()
        return self._ends[snapshot]


def _confirmed_after_all(run: Run) -> Select[Any]:
    """What a run would have learned from, had it not doubted it."""
    taught = _members.c.snapshot == run.snapshot, _members.c.split == Split.TRAIN.value
    doubted = _doubts.c.run == run.id, _doubts.c.left_out
    query = select(_doubts.c.correction).where(*doubted)
    query = query.join(_confirmations, _confirmations.c.correction == _doubts.c.correction)
    return query.join(_members, and_(_members.c.correction == _doubts.c.correction, *taught))
