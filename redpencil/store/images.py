"""Uploaded images by content; the first group of an image is its group for life."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from redpencil.store import schema
from redpencil.store.database import Database
from redpencil.store.paging import chunks
from redpencil.types import Image

_table = schema.images


class Images:
    def __init__(self, db: Database) -> None:
        self._db = db

    def add_many(self, items: Sequence[Image]) -> list[Image]:
        """Make images known without a prediction; returns them as kept, in order."""
        with self._db.write() as connection:
            return keep(self._db, connection, items)

    def get(self, sha256: str) -> Image | None:
        with self._db.read() as connection:
            return found(connection, [sha256]).get(sha256)


def keep(db: Database, connection: Connection, items: Sequence[Image]) -> list[Image]:
    """Insert those that are new, and have all in turn; returns them as kept, in order."""
    first = {image.sha256: image for image in reversed(items)}
    if not first:
        return []
    # always in the same order: two writers of the same images cannot wait for each other in a circle
    rows = [asdict(first[sha256]) for sha256 in sorted(first)]
    connection.execute(db.insert(_table).on_conflict_do_nothing(), rows)
    kept = in_turn(connection, first)
    return [kept[image.sha256] for image in items]


def found(connection: Connection, hashes: Iterable[str]) -> dict[str, Image]:
    """Those of the images that are known."""
    return _loaded(connection, select(_table), hashes)


def in_turn(connection: Connection, hashes: Iterable[str]) -> dict[str, Image]:
    """The same; until this transaction ends, others wait that want one of them in turn.

    Rows are taken in one order: two writers cannot wait for each other in a circle.
    """
    # of rows that refer to an image PostgreSQL asks no turn; SQLite has one writer at a time anyway
    turn = select(_table).order_by(_table.c.sha256).with_for_update(key_share=True)
    return _loaded(connection, turn, hashes)


def _loaded(connection: Connection, query: Select[Any], hashes: Iterable[str]) -> dict[str, Image]:
    rows: list[Row[Any]] = []
    for some in chunks(sorted(set(hashes))):
        rows += connection.execute(query.where(_table.c.sha256.in_(some)))
    return {row.sha256: Image(**row._mapping) for row in rows}
