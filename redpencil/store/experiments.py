"""Comparisons of two versions on live traffic, one at a time per model."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select, update
from sqlalchemy.exc import IntegrityError

from redpencil.errors import Conflict, NotFound
from redpencil.store import schema
from redpencil.store.database import Database
from redpencil.types import Experiment, Variant

_table, _predictions = schema.experiments, schema.predictions


@dataclass(frozen=True, slots=True)
class ArmAnswer:
    """An answer of one arm; `key` is what was assigned to it: the client's key, else the image."""

    key: str
    variant: str
    revision: int
    latency_ms: float


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

    def answers(self, id: str) -> tuple[ArmAnswer, ...]:
        """Every answer by assignment since the start, mirrored ones left out, oldest first."""
        p = _predictions.c
        with self._db.read() as connection:
            wanted = select(p.client_key, p.image, p.variant, p.revision, p.latency_ms)
            rows = connection.execute(
                wanted.where(_exposed(_get(connection, id))).order_by(p.created_at, p.id)
            )
            return tuple(
                ArmAnswer(r.client_key or r.image, r.variant, r.revision, r.latency_ms) for r in rows
            )


def _exposed(e: Experiment) -> ColumnElement[bool]:
    p = _predictions.c
    champion = and_(p.version == e.champion, p.variant == Variant.CHAMPION.value)
    challenger = and_(p.version == e.challenger, p.variant == Variant.CHALLENGER.value)
    during = p.created_at >= e.started_at
    if e.ended_at is not None:
        during = and_(during, p.created_at <= e.ended_at)
    return and_(p.model == e.model, p.mirror_of.is_(None), during, or_(champion, challenger))


def _get(connection: Connection, id: str) -> Experiment:
    row = connection.execute(select(_table).where(_table.c.id == id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no experiment {id}.")
    return _experiment(row)


def _experiment(row: Row[Any]) -> Experiment:
    return Experiment(**row._mapping)
