"""What serving should do, one row per model, changed only together with its ledger entry."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Connection, select, update

from redpencil.errors import Conflict
from redpencil.store import schema
from redpencil.store.database import Database
from redpencil.store.ledger import enter
from redpencil.types import LedgerEntry, ServingState

_table = schema.serving


class Serving:
    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, model: str) -> ServingState:
        """The desired state; revision 0 where nothing was ever decided."""
        with self._db.read() as connection:
            row = connection.execute(select(_table).where(_table.c.model == model)).one_or_none()
        return ServingState(model) if row is None else ServingState(**row._mapping)

    def change(self, new: ServingState, entry: LedgerEntry) -> ServingState:
        """Replace the state that `new` was made from, and say so in the ledger: both or neither.

        `new.revision` is that state's plus one; Conflict where somebody else was quicker.
        """
        with self._db.write() as connection:
            if not self._swap(connection, new):
                raise Conflict(
                    f"What is served of {new.model} was changed meanwhile. Look again, then decide."
                )
            enter(connection, entry)
        return new

    def _swap(self, connection: Connection, new: ServingState) -> bool:
        if new.revision == 1:
            return self._db.add(connection, _table, asdict(new))
        before = (_table.c.model == new.model, _table.c.revision == new.revision - 1)
        return connection.execute(update(_table).where(*before).values(asdict(new))).rowcount == 1
