"""Who changed what is served, when and why; entries are only ever added."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, select

from redpencil.store import schema
from redpencil.store.corrections import DEPLOYING
from redpencil.store.database import Database
from redpencil.store.paging import page
from redpencil.types import LedgerEntry

_table = schema.ledger


class Ledger:
    def __init__(self, db: Database) -> None:
        self._db = db

    def append(self, entry: LedgerEntry) -> None:
        with self._db.write() as connection:
            enter(connection, entry)

    def list(self, model: str | None = None, after: str | None = None, limit: int = 50) -> list[LedgerEntry]:
        """Newest first; `after` is the last id of the page before."""
        query = select(_table)
        if model is not None:
            query = query.where(_table.c.model == model)
        with self._db.read() as connection:
            return _entries(connection.execute(page(connection, query, _table, after, limit)).all())

    def deployments(self, model: str, version: str | None = None) -> builtins.list[LedgerEntry]:
        """When a version, or any one, was made champion, oldest first."""
        query = select(_table).where(_table.c.model == model, _table.c.action.in_(DEPLOYING))
        if version is not None:
            query = query.where(_table.c.to_version == version)
        with self._db.read() as connection:
            return _entries(connection.execute(query.order_by(_table.c.n)).all())


def enter(connection: Connection, entry: LedgerEntry) -> None:
    """Append inside the caller's transaction."""
    connection.execute(_table.insert(), asdict(entry))


def _entries(rows: Sequence[Row[Any]]) -> list[LedgerEntry]:
    return [LedgerEntry(**{k: v for k, v in row._mapping.items() if k != "n"}) for row in rows]
