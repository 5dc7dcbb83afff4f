"""Pages by key, and lists cut to what one statement takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, Table, select

from redpencil.errors import NotFound

T = TypeVar("T")


def chunks(items: Sequence[T], size: int = 500) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def page(
    connection: Connection, query: Select[Any], table: Table, after: str | None, limit: int
) -> Select[Any]:
    """The rows that came before the one named `after`, newest first."""
    if after is not None:
        n = connection.execute(select(table.c.n).where(table.c.id == after)).scalar()
        if n is None:
            raise NotFound(f"There is no {after} to go on after.")
        query = query.where(table.c.n < n)
    return query.order_by(table.c.n.desc()).limit(limit)
