"""Comparisons of two versions on live traffic, one at a time per model."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from redpencil.errors import Conflict, NotFound
from redpencil.store import schema
from redpencil.store.database import Database
from redpencil.store.paging import chunks
from redpencil.types import Experiment, Variant

_table, _predictions = schema.experiments, schema.predictions
AT_ONCE = 2000
"""So many answers are fetched at a time."""


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers of the arms, by variant, as far as a report needs them.

    `keys` counts what was assigned (the client's key, else the image) by the variant and revision that
    answered it first.
    """

    latencies_ms: dict[str, array[float]]
    keys: dict[tuple[str, int], int]


class Experiments:
    def __init__(self, db: Database) -> None:
        self._db = db

    def start(self, experiment: Experiment) -> None:
        """Conflict where one of its model is going on."""
        try:
            with self._db.write() as connection:
                connection.execute(_table.insert(), asdict(experiment))
        except IntegrityError as error:
            raise Conflict(f"An experiment of {experiment.model} is going on. End it first.") from error

    def get(self, id: str) -> Experiment:
        with self._db.read() as connection:
            return _get(connection, id)

    def current(self, model: str) -> Experiment | None:
        with self._db.read() as connection:
            query = select(_table).where(_table.c.model == model, _table.c.ended_at.is_(None))
            row = connection.execute(query).one_or_none()
        return None if row is None else _experiment(row)

    def end(self, id: str, why: str) -> Experiment:
        """End it for good; ending twice changes nothing."""
        with self._db.write() as connection:
            going = and_(_table.c.id == id, _table.c.ended_at.is_(None))
            connection.execute(update(_table).where(going).values(ended_at=time.time(), why=why))
            return _get(connection, id)

    def list(self, model: str) -> list[Experiment]:
        """Newest first."""
        newest = (_table.c.started_at.desc(), _table.c.id.desc())
        with self._db.read() as connection:
            rows = connection.execute(select(_table).where(_table.c.model == model).order_by(*newest))
            return [_experiment(row) for row in rows]

    def answers(self, id: str) -> Answers:
        """Of every answer by assignment since the start, mirrored ones left out."""
        with self._db.read() as connection:
            exposed = _exposed(_get(connection, id))
            return Answers(_latencies(connection, exposed), _keys(connection, exposed))

    def clients(self, experiment: Experiment, ids: Sequence[str]) -> dict[str, str]:
        """Those of some answers that were given and shown while it went on, each with its client's key."""
        p = _predictions.c
        query, found = select(p.id, p.client_key).where(_shown(experiment)), dict[str, str]()
        with self._db.read() as connection:
            for some in chunks(ids):
                rows = connection.execute(query.where(p.id.in_(some)))
                found |= {row.id: row.client_key for row in rows}
        return found


def _latencies(connection: Connection, exposed: ColumnElement[bool]) -> dict[str, array[float]]:
    p = _predictions.c
    found = {variant.value: array("d") for variant in (Variant.CHAMPION, Variant.CHALLENGER)}
    query = select(p.variant, p.latency_ms).where(exposed)
    for row in connection.execute(query.execution_options(yield_per=AT_ONCE)):
        found[row.variant].append(row.latency_ms)
    return found


def _keys(connection: Connection, exposed: ColumnElement[bool]) -> dict[tuple[str, int], int]:
    p = _predictions.c
    key = func.coalesce(func.nullif(p.client_key, ""), p.image)
    turn = func.row_number().over(partition_by=key, order_by=(p.created_at, p.id)).label("turn")
    each = select(p.variant, p.revision, turn).where(exposed).subquery()
    query = select(each.c.variant, each.c.revision, func.count()).where(each.c.turn == 1)
    counted = connection.execute(query.group_by(each.c.variant, each.c.revision))
    return {(variant, revision): n for variant, revision, n in counted}


def _exposed(e: Experiment) -> ColumnElement[bool]:
    p = _predictions.c
    champion = and_(p.version == e.champion, p.variant == Variant.CHAMPION.value)
    challenger = and_(p.version == e.challenger, p.variant == Variant.CHALLENGER.value)
    return and_(p.model == e.model, _shown(e), or_(champion, challenger))


def _shown(e: Experiment) -> ColumnElement[bool]:
    """What a person may have seen while it went on: mirrored answers nobody did."""
    p = _predictions.c
    during = and_(p.mirror_of.is_(None), p.created_at >= e.started_at)
    return during if e.ended_at is None else and_(during, p.created_at <= e.ended_at)


def _get(connection: Connection, id: str) -> Experiment:
    row = connection.execute(select(_table).where(_table.c.id == id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no experiment {id}.")
    return _experiment(row)


def _experiment(row: Row[Any]) -> Experiment:
    return Experiment(**row._mapping)
