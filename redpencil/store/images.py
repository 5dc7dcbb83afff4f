"""Uploaded images by content; the first group of an image is its group for life."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from sqlalchemy import Connection, Row, select

from redpencil.store import schema
from redpencil.store.database import Database
from redpencil.store.paging import chunks
from redpencil.types import Image


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
    """Insert those that are new; returns all as kept, in order."""
    first = {image.sha256: image for image in reversed(items)}
    if not first:
        return []
    # always in the same order: two writers of the same images cannot wait for each other in a circle
    rows = [asdict(first[sha256]) for sha256 in sorted(first)]
    connection.execute(db.insert(schema.images).on_conflict_do_nothing(), rows)
    kept = found(connection, first)
    return [kept[image.sha256] for image in items]


def found(connection: Connection, hashes: Iterable[str]) -> dict[str, Image]:
    """Those of the images that are known."""
    table = schema.images
    rows: list[Row[tuple[object, ...]]] = []
    for some in chunks(sorted(set(hashes))):
        rows += connection.execute(select(table).where(table.c.sha256.in_(some)))
    return {row.sha256: Image(**row._mapping) for row in rows}
