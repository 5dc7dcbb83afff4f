"""The blocks that wait for a person's eye: which, how many, and which of them by chance."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update

from redpencil.asking import Candidate
from redpencil.snapshot import side_of
from redpencil.store import schema
from redpencil.store.paging import chunks
from redpencil.store.places import Place, is_live, place
from redpencil.types import Split

_ROUNDS, _GUESSES = 8, 4
_blocks, _corrections = schema.blocks, schema.corrections
_predictions, _images = schema.predictions, schema.images


def settle(connection: Connection, images: Collection[str], pages: Collection[int] | None = None) -> None:
    """Of what each model read last of these images let that wait of which nothing is said, the rest not.

    With `pages` of these alone. The caller has the images `in_turn`: two writers that each knew half of it
    would both decide wrongly.
    """
    for some in chunks(sorted(images)):
        said, changed = _said_of(connection, some, pages), defaultdict[str | None, list[int]](list)
        for row in connection.execute(_read_last(some, pages)):
            review = None if (row.task, place(row)) in said else row.model
            if review != row.review:
                changed[review].append(row.n)
        for review, numbers in changed.items():
            _set(connection, review, numbers)


def supersede(connection: Connection, images: Collection[str]) -> None:
    """Of images that were just read let wait no more what was read before, nor what was said already.

    Most were never met before, and all that was read of them waits.
    """
    read = _predictions.c
    for some in chunks(sorted(_met_before(connection, images))):
        older = select(read.id).where(read.image.in_(some), read.id.not_in(_last(some)))
        stands = _blocks.c.prediction.in_(older), _blocks.c.review.is_not(None)
        connection.execute(update(_blocks).where(*stands).values(review=None))
        settle(connection, some)


def _met_before(connection: Connection, images: Collection[str]) -> set[str]:
    """Those that were read more than once, or of which something was said."""
    read, said = _predictions.c.image, _corrections.c.image
    several = select(read).where(_predictions.c.mirror_of.is_(None)).group_by(read).having(func.count() > 1)
    found: set[str] = set()
    for some in chunks(sorted(images)):
        found.update(connection.scalars(several.where(read.in_(some))))
        found.update(connection.scalars(select(said).where(said.in_(some))))
    return found


def _said_of(
    connection: Connection, images: Sequence[str], pages: Collection[int] | None
) -> set[tuple[str, Place]]:
    """Task and place of all that is said of them and not revoked."""
    table = _corrections.c
    query = select(table.task, table.image, table.page, table.polygon)
    query = query.where(table.image.in_(images), is_live(table.id))
    if pages is not None:
        query = query.where(table.page.in_(pages))
    return {(row.task, place(row)) for row in connection.execute(query)}


def _read_last(images: Sequence[str], pages: Collection[int] | None) -> Select[Any]:
    columns = (_blocks.c.n, _blocks.c.review, _blocks.c.page, _blocks.c.polygon)
    query = select(*columns, _predictions.c.image, _predictions.c.task, _predictions.c.model)
    query = query.join(_predictions, _predictions.c.id == _blocks.c.prediction)
    query = query.where(_predictions.c.id.in_(_last(images)))
    return query if pages is None else query.where(_blocks.c.page.in_(pages))


def _last(images: Sequence[str]) -> Select[Any]:
    """The last answer of each model about each image; mirrored ones, which nobody saw, do not count."""
    table = _predictions.c
    shown = select(func.max(table.id)).where(table.image.in_(images), table.mirror_of.is_(None))
    return shown.group_by(table.image, table.model)


def _set(connection: Connection, review: str | None, numbers: Sequence[int]) -> None:
    for some in chunks(numbers):
        connection.execute(update(_blocks).where(_blocks.c.n.in_(some)).values(review=review))


def count(connection: Connection, model: str) -> int:
    """How many wait."""
    query = select(func.count()).select_from(_blocks).where(_blocks.c.review == model)
    return connection.execute(query).scalar_one()


def least_confident(connection: Connection, model: str, limit: int) -> Sequence[Row[Any]]:
    """Where the machine was least sure, ties in the order in which they came."""
    return connection.execute(_waiting(model).order_by(_blocks.c.confidence, _blocks.c.n).limit(limit)).all()


def candidates(connection: Connection, model: str, limit: int) -> list[Candidate]:
    """About `limit` lines worth choosing from: half the least sure, half by chance; each once.

    Lines of documents that are held out teach nothing: they are there only where nothing else waits.
    """
    rows = [*least_confident(connection, model, limit - limit // 2), *draw(connection, model, limit // 2)]
    numbers = list(dict.fromkeys(row.n for row in rows))
    columns = (_blocks.c.n, _blocks.c.prediction, _blocks.c.id, _blocks.c.text, _blocks.c.char_confidence)
    query = select(*columns, _images.c.group).join(_predictions, _predictions.c.id == _blocks.c.prediction)
    query = query.join(_images, _images.c.sha256 == _predictions.c.image)
    found: dict[int, Candidate] = {}
    for some in chunks(numbers):
        for row in connection.execute(query.where(_blocks.c.n.in_(some))):
            place = (row.prediction, row.id)
            found[row.n] = Candidate(place, row.text, tuple(row.char_confidence), row.group)
    chosen = [found[n] for n in numbers]
    return [one for one in chosen if side_of(one.document) is Split.TRAIN] or chosen


def asked(connection: Connection, model: str, limit: int) -> list[str]:
    """What had been read in those of the lines corrected last that are learned from."""
    query = select(_corrections.c.predicted, _images.c.group)
    query = query.join(_images, _images.c.sha256 == _corrections.c.image).where(
        _corrections.c.model == model, _corrections.c.predicted.is_not(None), is_live(_corrections.c.id)
    )
    rows = connection.execute(query.order_by(_corrections.c.n.desc()).limit(limit))
    return [row.predicted for row in rows if side_of(row.group) is Split.TRAIN]


def draw(connection: Connection, model: str, limit: int) -> Sequence[Row[Any]]:
    """A uniform sample: guess row numbers and keep those that hit; where few do, shuffle all."""
    first, last = select(func.min(_blocks.c.n)), select(func.max(_blocks.c.n))
    low, high = connection.execute(first).scalar(), connection.execute(last).scalar()
    if low is None or high is None:
        return []
    drawn: dict[int, Row[Any]] = {}
    few = count(connection, model) * _ROUNDS * _GUESSES < high - low
    for _ in range(0 if few else _ROUNDS):
        guesses = dict.fromkeys(random.randint(low, high) for _ in range(_GUESSES * limit))
        drawn |= {row.n: row for row in _hits(connection, model, [n for n in guesses if n not in drawn])}
        if len(drawn) >= limit:
            return list(drawn.values())[:limit]
    return connection.execute(_waiting(model).order_by(func.random()).limit(limit)).all()


def _hits(connection: Connection, model: str, numbers: Sequence[int]) -> list[Row[Any]]:
    """Those of the rows that wait for review, in the order of the numbers."""
    found: dict[int, Row[Any]] = {}
    for some in chunks(numbers):
        query = select(_blocks.c.n, _blocks.c.prediction, _blocks.c.id, _blocks.c.review)
        found |= {row.n: row for row in connection.execute(query.where(_blocks.c.n.in_(some)))}
    return [found[n] for n in numbers if n in found and found[n].review == model]


def _waiting(model: str) -> Select[Any]:
    return select(_blocks.c.n, _blocks.c.prediction, _blocks.c.id).where(_blocks.c.review == model)
