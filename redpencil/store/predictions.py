"""Answers given, and the blocks of text in them that wait for a person's eye."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, func, select

from redpencil.asking import choose
from redpencil.errors import NotFound
from redpencil.store import schema, waiting
from redpencil.store.database import Database
from redpencil.store.images import found, keep
from redpencil.store.paging import chunks
from redpencil.types import Block, Image, Page, Prediction, Task, Variant

_predictions, _blocks = schema.predictions, schema.blocks
CANDIDATES = 400
"""From so many waiting blocks the useful ones are chosen."""
REMEMBERED = 300
"""So many corrections count as what has been asked already."""
PAGE = 200


class Predictions:
    def __init__(self, db: Database) -> None:
        self._db = db

    def add_many(self, items: Sequence[tuple[Image, Prediction]]) -> list[Image]:
        """Store images and predictions in one transaction; returns the images as kept, in order.

        On disk when it returns. Character confidences are kept to four decimals. Of an image that a model
        has read before only the new reading waits for review, without the lines that were corrected.
        """
        if not items:
            return []
        predictions = [prediction for _, prediction in items]
        with self._db.write() as connection:
            kept = keep(self._db, connection, [image for image, _ in items])
            blocks = [_block_row(p, block) for p in predictions for block in p.blocks]
            connection.execute(_predictions.insert(), [_prediction_row(p) for p in predictions])
            if blocks:
                connection.execute(_blocks.insert(), blocks)
            waiting.supersede(connection, {p.image for p in predictions if p.mirror_of is None})
        return kept

    def get(self, id: str) -> Prediction:
        with self._db.read() as connection:
            loaded = _load(connection, [id])
        if not loaded:
            raise NotFound(f"There is no prediction {id}.")
        return loaded[0]

    def list(
        self, model: str | None = None, version: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Prediction]:
        """Newest first; `after` is the last id of the page before."""
        query = select(_predictions.c.id).order_by(_predictions.c.id.desc()).limit(limit)
        given = {"model": model, "version": version}
        query = query.where(
            *(_predictions.c[name] == value for name, value in given.items() if value is not None)
        )
        with self._db.read() as connection:
            if after is not None:
                if not connection.scalar(select(_predictions.c.id).where(_predictions.c.id == after)):
                    raise NotFound(f"There is no {after} to go on after.")
                query = query.where(_predictions.c.id < after)
            return _load(connection, list(connection.scalars(query)))

    def count(self, model: str, version: str) -> int:
        """How many answers a version gave, mirrored ones too."""
        mine = (_predictions.c.model == model, _predictions.c.version == version)
        with self._db.read() as connection:
            return connection.execute(
                select(func.count()).select_from(_predictions).where(*mine)
            ).scalar_one()

    def mirrors_of(self, ids: Sequence[str]) -> dict[str, Prediction]:
        """Of the predictions that were mirrored, what the other version read there."""
        with self._db.read() as connection:
            shadows: list[str] = []
            for some in chunks(ids):
                shadows += connection.scalars(
                    select(_predictions.c.id).where(_predictions.c.mirror_of.in_(some))
                )
            return {str(p.mirror_of): p for p in _load(connection, shadows)}

    def uncorrected(
        self, model: str, limit: int, order: Literal["least_confident", "random"] = "least_confident"
    ) -> builtins.list[tuple[Prediction, Block]]:
        """Blocks that were read last at a place of which nobody has said anything that is not revoked.

        "random" is a uniform sample without replacement: each block of the population comes with
        the chance limit / uncorrected_count(model).
        """
        with self._db.read() as connection:
            choose = waiting.draw if order == "random" else waiting.least_confident
            places = choose(connection, model, limit)
            predictions = {p.id: p for p in _load(connection, [place.prediction for place in places])}
        return [_with_block(predictions[place.prediction], place.id) for place in places]

    def useful(self, model: str, limit: int) -> builtins.list[tuple[Prediction, Block]]:
        """Of the blocks that wait those whose correction should teach the most, the best first.

        Chosen from a few hundred, however many wait; see `redpencil.asking`.
        """
        with self._db.read() as connection:
            waits = waiting.candidates(connection, model, max(CANDIDATES, 4 * limit))
            chosen = choose(waits, limit, waiting.asked(connection, model, REMEMBERED))
            predictions = {p.id: p for p in _load(connection, [c.place[0] for c in chosen])}
        return [_with_block(predictions[id], region) for id, region in (c.place for c in chosen)]

    def latest(self, model: str, before: float) -> Iterator[tuple[Prediction, str]]:
        """Every image as it was read last before a moment, with its group; the newest first.

        Mirrored answers do not count.
        """
        seen: set[str] = set()
        last: str | None = None
        while page := self.list(model, after=last, limit=PAGE):
            last = page[-1].id
            with self._db.read() as connection:
                images = found(connection, (p.image for p in page))
            for p in page:
                if p.mirror_of is None and p.created_at < before and p.image not in seen:
                    seen.add(p.image)
                    yield p, images[p.image].group

    def uncorrected_count(self, model: str) -> int:
        """How many blocks `uncorrected` chooses from."""
        with self._db.read() as connection:
            return waiting.count(connection, model)


def _with_block(prediction: Prediction, id: str) -> tuple[Prediction, Block]:
    return prediction, next(block for block in prediction.blocks if block.id == id)


def _load(connection: Connection, ids: Iterable[str]) -> list[Prediction]:
    """Predictions with their blocks, in the order of the ids."""
    wanted = list(dict.fromkeys(ids))
    blocks: dict[str, list[Block]] = {id: [] for id in wanted}
    rows: dict[str, Row[Any]] = {}
    for some in chunks(wanted):
        query = select(_blocks).where(_blocks.c.prediction.in_(some)).order_by(_blocks.c.n)
        for row in connection.execute(query):
            blocks[row.prediction].append(_block(row))
        rows |= {
            row.id: row for row in connection.execute(select(_predictions).where(_predictions.c.id.in_(some)))
        }
    return [_prediction(rows[id], blocks[id]) for id in wanted if id in rows]


def _prediction_row(p: Prediction) -> dict[str, Any]:
    return {
        "id": p.id,
        "created_at": p.created_at,
        "image": p.image,
        "task": p.task.value,
        "model": p.model,
        "version": p.version,
        "variant": p.variant.value,
        "pages": [[page.index, page.width, page.height] for page in p.pages],
        "latency_ms": p.latency_ms,
        "revision": p.revision,
        "request_id": p.request_id,
        "client_key": p.client_key,
        "mirror_of": p.mirror_of,
    }


def _block_row(p: Prediction, block: Block) -> dict[str, Any]:
    return {
        "prediction": p.id,
        "id": block.id,
        "page": block.page,
        "polygon": block.polygon,
        "text": block.text,
        "confidence": block.confidence,
        "char_confidence": [round(c, 4) for c in block.char_confidence],
        "review": p.model if p.mirror_of is None else None,
    }


def _prediction(row: Row[Any], blocks: Sequence[Block]) -> Prediction:
    fields = dict(row._mapping)
    fields |= {"task": Task(row.task), "variant": Variant(row.variant), "blocks": tuple(blocks)}
    fields["pages"] = tuple(Page(*page) for page in row.pages)
    return Prediction(**fields)


def _block(row: Row[Any]) -> Block:
    polygon = tuple((float(x), float(y)) for x, y in row.polygon)
    return Block(row.id, row.page, polygon, row.text, row.confidence, tuple(row.char_confidence))
