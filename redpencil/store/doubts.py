"""Which corrections the runs doubted, and what people decided: both only ever added."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, select

from redpencil.errors import NotFound
from redpencil.store import schema
from redpencil.store.corrections import Corrections, correction_of, whole
from redpencil.store.database import Database
from redpencil.store.places import is_live
from redpencil.types import Correction, Doubt, Task

_doubts, _confirmations = schema.doubts, schema.confirmations
_corrections, _revocations = schema.corrections, schema.revocations


class Doubts:
    def __init__(self, db: Database) -> None:
        self._db = db

    def add_many(self, doubts: Sequence[Doubt]) -> None:
        """Keep what a run thought of corrections, all in one transaction; said again changes nothing."""
        with self._db.write() as connection:
            for doubt in doubts:
                self._db.add(connection, _doubts, asdict(doubt))

    def of_run(self, run: str) -> list[Doubt]:
        """What a run thought, ordered by correction; empty where it doubted nothing or has not asked yet."""
        query = select(_doubts).where(_doubts.c.run == run).order_by(_doubts.c.correction)
        with self._db.read() as connection:
            return [_doubt(row) for row in connection.execute(query)]

    def of_correction(self, id: str) -> list[Doubt]:
        """What the runs thought of it, oldest first."""
        query = select(_doubts).where(_doubts.c.correction == id).order_by(_doubts.c.at, _doubts.c.run)
        with self._db.read() as connection:
            return [_doubt(row) for row in connection.execute(query)]

    def left_out(self, run: str) -> frozenset[str]:
        """The corrections that a run did not learn from."""
        return frozenset(d.correction for d in self.of_run(run) if d.left_out)

    def latest(self) -> dict[str, Doubt]:
        """By correction what the latest run thought of it; where a person confirmed it, nothing."""
        query = select(_doubts).where(_is_latest(), ~_is_confirmed(_doubts.c.correction))
        with self._db.read() as connection:
            return {row.correction: _doubt(row) for row in connection.execute(query)}

    def suspects(self, task: Task, every: bool = False, limit: int = 50) -> list[tuple[Correction, Doubt]]:
        """Live corrections that nobody has confirmed, the most suspect first.

        Those that the latest run which looked left out; with `every` also those that it learned from.
        """
        query = _open(task, every).order_by(_doubts.c.score.desc(), _doubts.c.correction)
        with self._db.read() as connection:
            doubted = [_doubt(row) for row in connection.execute(query)]
        current = self._current(task, every)
        ranked = [d for d in doubted if d.correction in current][:limit]
        with self._db.read() as connection:
            rows = connection.execute(whole().where(_corrections.c.id.in_([d.correction for d in ranked])))
            found = {row.id: correction_of(row) for row in rows}
        return [(found[d.correction], d) for d in ranked]

    def count(self, task: Task) -> int:
        """How many are left out and wait for a person's decision."""
        return len(self._current(task, every=False))

    def _current(self, task: Task, every: bool) -> set[str]:
        """The doubted ones that were not said anew since."""
        ids = _open(task, every).with_only_columns(_doubts.c.correction.label("id"))
        return Corrections(self._db).current(task, ids)

    def confirm(self, id: str, who: str, why: str) -> None:
        """A person says that a correction is right: no later run doubts it. Twice changes nothing."""
        row = {"correction": id, "at": time.time(), "who": who, "why": why}
        with self._db.write() as connection:
            if connection.execute(select(_corrections.c.id).where(_corrections.c.id == id)).first() is None:
                raise NotFound(f"There is no correction {id}.")
            self._db.add(connection, _confirmations, row)

    def confirmation(self, id: str) -> dict[str, Any] | None:
        """Who confirmed it, when and why; None where nobody did."""
        with self._db.read() as connection:
            row = connection.execute(
                select(_confirmations).where(_confirmations.c.correction == id)
            ).one_or_none()
        return None if row is None else dict(row._mapping)

    def confirmed(self) -> set[str]:
        with self._db.read() as connection:
            return set(connection.scalars(select(_confirmations.c.correction)))

    def settled(self, task: Task) -> dict[str, tuple[int, int]]:
        """By author how many of the doubted corrections people found right, and how many wrong."""
        said = (_corrections.c.task == task.value, _corrections.c.id.in_(select(_doubts.c.correction)))
        right = select(_corrections.c.author).where(*said, _is_confirmed(_corrections.c.id))
        wrong = select(_corrections.c.author).where(*said, ~is_live(_corrections.c.id), _was_left_out())
        with self._db.read() as connection:
            rights, wrongs = list(connection.scalars(right)), list(connection.scalars(wrong))
        return {author: (rights.count(author), wrongs.count(author)) for author in {*rights, *wrongs}}


def _open(task: Task, every: bool) -> Select[Any]:
    query = select(_doubts).join(_corrections, _corrections.c.id == _doubts.c.correction)
    query = query.where(_corrections.c.task == task.value, is_live(_corrections.c.id), _is_latest())
    query = query.where(~_is_confirmed(_doubts.c.correction))
    return query if every else query.where(_doubts.c.left_out)


def _is_latest() -> ColumnElement[bool]:
    later = _doubts.alias("later")
    newer = and_(later.c.correction == _doubts.c.correction, later.c.at > _doubts.c.at)
    return ~select(1).where(newer).exists()


def _is_confirmed(id: ColumnElement[str]) -> ColumnElement[bool]:
    return select(1).where(_confirmations.c.correction == id).exists()


def _was_left_out() -> ColumnElement[bool]:
    return select(1).where(_doubts.c.correction == _corrections.c.id, _doubts.c.left_out).exists()


def _doubt(row: Row[Any]) -> Doubt:
    return Doubt(**{column.name: getattr(row, column.name) for column in _doubts.c})
