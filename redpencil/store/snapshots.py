"""Frozen training sets: which corrections, on which side. The words stay with the corrections."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Row, select

from redpencil.errors import NotFound
from redpencil.store import schema
from redpencil.store.database import Database
from redpencil.store.paging import chunks
from redpencil.types import Member, Snapshot, Split, Task

_snapshots, _members = schema.snapshots, schema.snapshot_members
_corrections, _images = schema.corrections, schema.images


class Snapshots:
    def __init__(self, db: Database) -> None:
        self._db = db

    def put(self, snapshot: Snapshot) -> None:
        """Keep a snapshot of corrections that are stored here; the same id twice is fine."""
        row = {"id": snapshot.id, "task": snapshot.task.value, "created_at": time.time()}
        members = [
            {"snapshot": snapshot.id, "correction": m.correction, "split": m.split.value}
            for m in snapshot.members
        ]
        with self._db.write() as connection:
            if self._db.add(connection, _snapshots, row) and members:
                _check(connection, snapshot)
                connection.execute(_members.insert(), members)

    def get(self, id: str) -> Snapshot:
        """The snapshot with its members, ordered by correction."""
        query = (
            select(_corrections, _images.c.group, _members.c.split)
            .select_from(_members)
            .join(_corrections, _corrections.c.id == _members.c.correction)
            .join(_images, _images.c.sha256 == _corrections.c.image)
            .where(_members.c.snapshot == id)
            .order_by(_corrections.c.id)
        )
        with self._db.read() as connection:
            head = connection.execute(select(_snapshots).where(_snapshots.c.id == id)).one_or_none()
            if head is None:
                raise NotFound(f"There is no snapshot {id}.")
            return Snapshot(id, Task(head.task), tuple(_member(row) for row in connection.execute(query)))

    def created_at(self, id: str) -> float:
        """When it was taken first."""
        with self._db.read() as connection:
            at = connection.execute(select(_snapshots.c.created_at).where(_snapshots.c.id == id)).scalar()
        if at is None:
            raise NotFound(f"There is no snapshot {id}.")
        return float(at)

    def containing(self, correction_id: str) -> list[str]:
        """The snapshots that hold a correction, on either side, oldest first."""
        query = (
            select(_snapshots.c.id)
            .join(_members, _members.c.snapshot == _snapshots.c.id)
            .where(_members.c.correction == correction_id)
            .order_by(_snapshots.c.created_at, _snapshots.c.id)
        )
        with self._db.read() as connection:
            return list(connection.scalars(query))


def _check(connection: Connection, snapshot: Snapshot) -> None:
    """Every member is a correction that is stored here."""
    wanted = [m.correction for m in snapshot.members]
    known: set[str] = set()
    for some in chunks(wanted):
        known |= set(connection.scalars(select(_corrections.c.id).where(_corrections.c.id.in_(some))))
    unknown = next((id for id in wanted if id not in known), None)
    if unknown is not None:
        raise NotFound(f"Snapshot {snapshot.id[:12]} names correction {unknown}, which is not stored here.")


def _member(row: Row[Any]) -> Member:
    polygon = tuple((float(x), float(y)) for x, y in row.polygon)
    return Member(row.id, row.image, row.group, row.page, polygon, row.text, Split(row.split))
