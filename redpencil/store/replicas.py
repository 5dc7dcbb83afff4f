"""The heartbeats of serving replicas: what each has loaded."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import delete, select

from redpencil.store import schema
from redpencil.store.database import Database

_GONE_S = 24 * 3600
_table = schema.replicas


class Replicas:
    def __init__(self, db: Database) -> None:
        self._db = db

    def beat(
        self,
        replica: str,
        model: str,
        pid: int,
        revision: int,
        champion: str | None,
        challenger: str | None,
        previous: str | None,
        error: str | None,
    ) -> None:
        """Say that a replica lives and what it holds; those unheard of for a day are dropped."""
        now = time.time()
        row = {"replica": replica, "model": model, "pid": pid, "revision": revision, "champion": champion}
        row |= {"challenger": challenger, "previous": previous, "error": error, "at": now}
        insert = self._db.insert(_table).values(row)
        with self._db.write() as connection:
            connection.execute(insert.on_conflict_do_update(index_elements=[_table.c.replica], set_=row))
            connection.execute(delete(_table).where(_table.c.at < now - _GONE_S))

    def list(self, model: str, fresh_s: float = 10) -> list[dict[str, Any]]:
        """The replicas heard of within `fresh_s` seconds, by name."""
        fresh = (_table.c.model == model, _table.c.at >= time.time() - fresh_s)
        with self._db.read() as connection:
            rows = connection.execute(select(_table).where(*fresh).order_by(_table.c.replica))
            return [dict(row._mapping) for row in rows]
