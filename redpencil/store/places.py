"""The places on images of which something is read or said, and whether what was said still counts."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import ColumnElement, select

from redpencil.store import schema
from redpencil.types import Polygon

_revocations = schema.revocations


class Placed(Protocol):
    """What speaks of a region of an image's page."""

    @property
    def image(self) -> str: ...
    @property
    def page(self) -> int: ...
    @property
    def polygon(self) -> Polygon: ...


Place = tuple[str, int, tuple[tuple[int, int], ...]]
"""Image, page, and the region in whole pixels."""


def place(c: Placed) -> Place:
    """Of what it speaks."""
    return c.image, c.page, tuple((round(x), round(y)) for x, y in c.polygon)


def is_live(id: ColumnElement[str]) -> ColumnElement[bool]:
    return ~select(1).where(_revocations.c.correction == id).exists()
