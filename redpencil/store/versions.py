"""Registered model versions and what the gate said about them."""

from __future__ import annotations

import builtins
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Row, Select, and_, func, select

from redpencil.errors import Conflict, NotFound
from redpencil.store import schema
from redpencil.store.corrections import left_out
from redpencil.store.database import Database
from redpencil.types import ModelVersion, Outcome, Precision, Split, Verdict

_versions, _verdicts, _members = schema.versions, schema.verdicts, schema.snapshot_members
_BESIDE = ("n", "model", "version", "counted")
_PAIR = '":"'  # stands once in each item as `Json` writes it: in a name the quotation mark is escaped


class Versions:
    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, version: ModelVersion) -> None:
        """Make a version known; the same again is fine, another under its name is a Conflict."""
        with self._db.write() as connection:
            self._db.add(connection, _versions, asdict(version))
            kept = _get(connection, version.model, version.version)
        if (kept.bundle, kept.snapshot) != (version.bundle, version.snapshot):
            raise Conflict(
                f"{version.model}/{version.version} is registered already, with another bundle or snapshot."
            )

    def get(self, model: str, version: str) -> ModelVersion:
        with self._db.read() as connection:
            return _get(connection, model, version)

    def find(self, model: str, version: str) -> ModelVersion | None:
        """The version, None where it was never registered here."""
        with self._db.read() as connection:
            return _find(connection, model, version)

    def list(self, model: str) -> list[ModelVersion]:
        """Newest first."""
        newest = (_versions.c.created_at.desc(), _versions.c.version.desc())
        with self._db.read() as connection:
            rows = connection.execute(select(_versions).where(_versions.c.model == model).order_by(*newest))
            return [_version(row) for row in rows]

    def of_snapshot(self, id: str) -> builtins.list[ModelVersion]:
        """Those trained on a snapshot, oldest first."""
        with self._db.read() as connection:
            rows = connection.execute(
                select(_versions).where(_versions.c.snapshot == id).order_by(*_oldest())
            )
            return [_version(row) for row in rows]

    def learned_from(self, correction_id: str) -> builtins.list[ModelVersion]:
        """Every version that a correction has a part in, oldest first.

        Its own snapshot holds the correction on the train side and its run did not leave it out, or
        so it is with a version that it grew from.
        """
        held = and_(_members.c.correction == correction_id, _members.c.split == Split.TRAIN.value)
        first = select(_versions.c.model, _versions.c.version)
        first = first.join(_members, _members.c.snapshot == _versions.c.snapshot)
        first = first.where(held, ~left_out(_members.c.correction))
        lines = first.cte("lines", recursive=True)
        grown = and_(_versions.c.model == lines.c.model, _versions.c.parent == lines.c.version)
        lines = lines.union(select(_versions.c.model, _versions.c.version).join(lines, grown))
        same = and_(_versions.c.model == lines.c.model, _versions.c.version == lines.c.version)
        with self._db.read() as connection:
            return [
                _version(r)
                for r in connection.execute(select(_versions).join(lines, same).order_by(*_oldest()))
            ]

    def learned_by(self, model: str, version: str) -> set[str]:
        """The corrections that a version or its ancestors learned from: the inverse of `learned_from`."""
        mine = and_(_versions.c.model == model, _versions.c.version == version)
        named = select(_versions.c.model, _versions.c.version, _versions.c.parent)
        line = named.where(mine).cte("line", recursive=True)
        parent = and_(_versions.c.model == line.c.model, _versions.c.version == line.c.parent)
        line = line.union(named.join(line, parent))
        same = and_(_versions.c.model == line.c.model, _versions.c.version == line.c.version)
        query = select(_members.c.correction).distinct()
        query = query.join(_versions, _versions.c.snapshot == _members.c.snapshot).join(line, same)
        query = query.where(_members.c.split == Split.TRAIN.value, ~left_out(_members.c.correction))
        with self._db.read() as connection:
            return set(connection.scalars(query))

    def grown_from(self, model: str, version: str) -> builtins.list[ModelVersion]:
        """Those that started from a version, oldest first."""
        children = and_(_versions.c.model == model, _versions.c.parent == version)
        with self._db.read() as connection:
            return [
                _version(r)
                for r in connection.execute(select(_versions).where(children).order_by(*_oldest()))
            ]

    def put_verdict(self, model: str, version: str, verdict: Verdict) -> None:
        """Add a judgement; the latest counts, the earlier ones are kept."""
        with self._db.write() as connection:
            _get(connection, model, version)
            values = asdict(verdict) | {
                "outcome": verdict.outcome.value,
                "precision": verdict.precision.value,
            }
            connection.execute(_verdicts.insert(), values | {"model": model, "version": version})

    def verdict(self, model: str, version: str) -> Verdict | None:
        """The latest judgement, None where there is none."""
        mine = and_(_verdicts.c.model == model, _verdicts.c.version == version)
        query = select(_verdicts).where(mine).order_by(_verdicts.c.n.desc()).limit(1)
        with self._db.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _verdict(row)

    def verdicts(self, model: str) -> dict[str, tuple[Verdict, int]]:
        """By version the latest judgement without its items, and how many these are."""
        told = [column for column in _verdicts.c if column.name != "items"]
        latest = select(func.max(_verdicts.c.n)).where(_verdicts.c.model == model)
        latest = latest.group_by(_verdicts.c.version)
        query: Select[Any] = select(*told, _counted().label("counted")).where(_verdicts.c.n.in_(latest))
        with self._db.read() as connection:
            return {row.version: (_verdict(row), row.counted) for row in connection.execute(query)}


def _oldest() -> tuple[Any, Any]:
    return _versions.c.created_at, _versions.c.version


def _get(connection: Connection, model: str, version: str) -> ModelVersion:
    known = _find(connection, model, version)
    if known is None:
        raise NotFound(f"There is no version {model}/{version}.")
    return known


def _find(connection: Connection, model: str, version: str) -> ModelVersion | None:
    mine = and_(_versions.c.model == model, _versions.c.version == version)
    row = connection.execute(select(_versions).where(mine)).one_or_none()
    return None if row is None else _version(row)


def _version(row: Row[Any]) -> ModelVersion:
    return ModelVersion(**row._mapping)


def _verdict(row: Row[Any]) -> Verdict:
    values = {name: value for name, value in row._mapping.items() if name not in _BESIDE}
    values |= {"outcome": Outcome(row.outcome), "precision": Precision(row.precision)}
    return Verdict(**{"items": {}} | values | {"reasons": tuple(row.reasons)})


def _counted() -> ColumnElement[int]:
    """How many items a verdict has, without reading them: there may be thousands."""
    items = _verdicts.c["items"]
    less = func.length(items, type_=Integer) - func.length(func.replace(items, _PAIR, ""), type_=Integer)
    return less // len(_PAIR)
