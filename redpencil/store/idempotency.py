"""Same key and body, same answer: what was answered to a request that a client may repeat."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from redpencil.errors import BadInput, Conflict
from redpencil.store import schema
from redpencil.store.database import Database

ABANDONED_S = 300
"""A request of another process in flight for longer is held to have died with it."""

_table = schema.idempotency


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer given before, to be given again."""

    status: int
    body: str


class Idempotency:
    def __init__(self, db: Database) -> None:
        self._db = db
        self._at_work: dict[tuple[str, str], float] = {}

    def begin(self, key: str, route: str, body_hash: str) -> Replay | None:
        """The earlier answer, or None: go on, then `finish` or `abandon`, and say when it is `over`.

        Raises Conflict while the first request is in flight, BadInput where the body is another.
        """
        now = time.time()
        row = {"key": key, "route": route, "body_hash": body_hash, "started_at": now}
        with self._db.write() as connection:
            if not self._db.add(connection, _table, row):
                replay = self._repeated(connection, key, route, body_hash, now)
                if replay is not None:
                    return replay
        self._at_work[key, route] = now
        return None

    def finish(self, key: str, route: str, status: int, body: str) -> None:
        """Keep the answer for repetitions; in a transaction, together with what else that writes.

        Conflict where the request was held to be abandoned and another process has taken it over: then
        the transaction comes to nothing.
        """
        mine = _table.c.started_at == self._at_work[key, route]
        with self._db.write() as connection:
            kept = update(_table).where(_at(key, route), mine).values(status=status, body=body)
            if not connection.execute(kept).rowcount:
                raise Conflict(f"The request with Idempotency-Key {key!r} was taken over. Ask again.")

    def abandon(self, key: str, route: str) -> None:
        """Forget a request that failed before it had an answer, so that it may be tried again."""
        mine = _table.c.started_at == self._at_work[key, route]
        with self._db.write() as connection:
            connection.execute(delete(_table).where(_at(key, route), mine, _table.c.status.is_(None)))

    def over(self, key: str, route: str) -> None:
        """This process is not at work on it any more."""
        del self._at_work[key, route]

    def forget(self, older_than_s: float) -> int:
        """Drop keys begun longer ago; returns how many."""
        with self._db.write() as connection:
            old = _table.c.started_at < time.time() - older_than_s
            return connection.execute(delete(_table).where(old)).rowcount

    def _repeated(
        self, connection: Connection, key: str, route: str, body_hash: str, now: float
    ) -> Replay | None:
        row = connection.execute(select(_table).where(_at(key, route))).one_or_none()
        if row is not None and row.body_hash != body_hash:
            raise BadInput(f"Idempotency-Key {key!r} was used before with another body. Take a new key.")
        if row is not None and row.status is not None:
            return Replay(row.status, row.body)
        here = (key, route) in self._at_work  # however long it takes, this process has not died
        if here or row is None or not _taken_over(connection, key, route, row.started_at, now):
            raise Conflict(f"A request with Idempotency-Key {key!r} is still in flight. Ask again shortly.")
        return None


def _taken_over(connection: Connection, key: str, route: str, started_at: float, now: float) -> bool:
    """Of several that find an abandoned request, one takes it over."""
    same = and_(_at(key, route), _table.c.started_at == started_at)
    if started_at >= now - ABANDONED_S:
        return False
    return connection.execute(update(_table).where(same).values(started_at=now)).rowcount == 1


def _at(key: str, route: str) -> ColumnElement[bool]:
    return and_(_table.c.key == key, _table.c.route == route)
