"""The blocks that wait for a person's eye: which, how many, and which of them by chance."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select, update

from redpencil.asking import Candidate
from redpencil.snapshot import side_of
from redpencil.store import schema
from redpencil.store.corrections import is_live, place
from redpencil.store.paging import chunks
from redpencil.types import Prediction, Split, Task

_ROUNDS = 8
_blocks, _corrections = schema.blocks, schema.corrections
_predictions, _images = schema.predictions, schema.images


Said = tuple[Task, str, int, tuple[tuple[int, int], ...]]
"""A task, and the place of which something was said."""


def said_of(connection: Connection, images: Collection[str]) -> set[Said]:
    """The places on these images that have a correction."""
    table = _corrections.c
    query = select(table.task, table.image, table.page, table.polygon).where(is_live(table.id))
    found: set[Said] = set()
    for some in chunks(sorted(images)):
        rows = connection.execute(query.where(table.image.in_(some)))
        found |= {(Task(row.task), *place(row)) for row in rows}
    return found


def supersede(connection: Connection, predictions: Sequence[Prediction]) -> None:
    """Let what a model had read of the same images before wait no more; most it had never read."""
    newest = {(p.image, p.model): p.id for p in sorted(predictions, key=lambda p: p.id)}
    again = [
        (key, newest[key])
        for key in _read_before(connection, {image for image, _ in newest})
        if key in newest
    ]
    for some in chunks(sorted({image for (image, _), _ in again})):
        # in one order: two writers of the same images cannot wait for each other in a circle
        turn = select(_images.c.sha256).where(_images.c.sha256.in_(some)).order_by(_images.c.sha256)
        connection.execute(turn.with_for_update(key_share=True))
    for (image, model), id in again:
        mine = _predictions.c.image == image, _predictions.c.model == model
        older = select(_predictions.c.id).where(*mine, _predictions.c.id < id)
        stands = _blocks.c.review.is_not(None), _blocks.c.prediction.in_(older)
        connection.execute(update(_blocks).where(*stands).values(review=None))


def _read_before(connection: Connection, images: Collection[str]) -> list[tuple[str, str]]:
    """Those of the images that a model has read more than once, with the model."""
    both = _predictions.c.image, _predictions.c.model
    several = select(*both).group_by(*both).having(func.count() > 1)
    found: list[tuple[str, str]] = []
    for some in chunks(sorted(images)):
        rows = connection.execute(several.where(_predictions.c.image.in_(some)))
        found += [(row.image, row.model) for row in rows]
    return found


def count(connection: Connection, model: str) -> int:
    """How many wait; quick, as few of many blocks are corrected."""
    mine = _blocks.c.review == model
    of_mine = select(1).where(_about_block(), mine).exists()
    corrected = select(_corrections.c.prediction, _corrections.c.region).distinct()
    corrected = corrected.where(is_live(_corrections.c.id), of_mine)
    every = connection.execute(select(func.count()).select_from(_blocks).where(mine)).scalar_one()
    return every - connection.execute(select(func.count()).select_from(corrected.subquery())).scalar_one()


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
    for _ in range(_ROUNDS):
        guesses = dict.fromkeys(random.randint(low, high) for _ in range(4 * limit))
        drawn |= {row.n: row for row in _hits(connection, model, [n for n in guesses if n not in drawn])}
        if len(drawn) >= limit:
            return list(drawn.values())[:limit]
    return connection.execute(_waiting(model).order_by(func.random()).limit(limit)).all()


def _hits(connection: Connection, model: str, numbers: Sequence[int]) -> list[Row[Any]]:
    """Those of the rows that wait for review, in the order of the numbers."""
    columns = (_blocks.c.n, _blocks.c.prediction, _blocks.c.id, _blocks.c.review)
    query = select(*columns, _is_corrected().label("corrected"))
    found: dict[int, Row[Any]] = {}
    for some in chunks(numbers):
        found |= {row.n: row for row in connection.execute(query.where(_blocks.c.n.in_(some)))}
    return [found[n] for n in numbers if n in found and found[n].review == model and not found[n].corrected]


def _about_block() -> ColumnElement[bool]:
    return and_(_corrections.c.prediction == _blocks.c.prediction, _corrections.c.region == _blocks.c.id)


def _is_corrected() -> ColumnElement[bool]:
    return select(1).where(_about_block(), is_live(_corrections.c.id)).exists()


def _waiting(model: str) -> Select[Any]:
    places = select(_blocks.c.n, _blocks.c.prediction, _blocks.c.id)
    return places.where(_blocks.c.review == model, ~_is_corrected())
