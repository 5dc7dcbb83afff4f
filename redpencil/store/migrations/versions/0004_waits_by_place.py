"""What waits for review is kept with each block: of the last reading, where nothing is said of its place.

So the store writes it from now on, at each reading and correction; here it is put right once. And the
last corrections of a model are found quickly.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

AT_ONCE = 500


def table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns))


predictions = table("predictions", "id", "image", "task", "model", "mirror_of")
blocks = table("blocks", "n", "prediction", "page", "polygon", "review")
corrections = table("corrections", "id", "task", "image", "page", "polygon")
revocations = table("revocations", "correction")


def upgrade() -> None:
    op.create_index("ix_corrections_model", "corrections", ["model", "n"])
    change = sa.update(blocks).where(blocks.c.n == sa.bindparam("number"))
    change = change.values(review=sa.bindparam("now"))
    for images in some_images():
        changes = [*too_late(images), *wrong(images)]
        if changes:
            op.get_bind().execute(change, [{"number": n, "now": review} for n, review in changes])


def downgrade() -> None:
    """What waits is left as it is: code of before understands it."""
    op.drop_index("ix_corrections_model", "corrections")


def some_images() -> Iterator[Sequence[str]]:
    """All that were ever read, a few hundred at a time."""
    image, images = predictions.c.image, [""]
    while images:
        query = sa.select(image).where(image > images[-1]).distinct().order_by(image).limit(AT_ONCE)
        images = list(op.get_bind().scalars(query))
        yield images


def last(images: Sequence[str]) -> sa.Select[Any]:
    """The last answer of each model about each image; mirrored ones, which nobody saw, do not count."""
    shown = predictions.c.image.in_(images), predictions.c.mirror_of.is_(None)
    query = sa.select(sa.func.max(predictions.c.id)).where(*shown)
    return query.group_by(predictions.c.image, predictions.c.model)


def too_late(images: Sequence[str]) -> Iterator[tuple[int, None]]:
    """What still waits of earlier readings."""
    query = sa.select(blocks.c.n).join_from(blocks, predictions, predictions.c.id == blocks.c.prediction)
    query = query.where(predictions.c.image.in_(images), predictions.c.id.not_in(last(images)))
    for n in op.get_bind().scalars(query.where(blocks.c.review.is_not(None))):
        yield n, None


def wrong(images: Sequence[str]) -> Iterator[tuple[int, str | None]]:
    """What waits of the last readings and should not, and what should and does not."""
    said = set(spoken_of(images))
    columns = (blocks.c.n, blocks.c.review, blocks.c.page, blocks.c.polygon)
    query = sa.select(*columns, predictions.c.image, predictions.c.task, predictions.c.model)
    query = query.join_from(blocks, predictions, predictions.c.id == blocks.c.prediction)
    for row in op.get_bind().execute(query.where(predictions.c.id.in_(last(images)))):
        review = None if (row.task, *place(row)) in said else row.model
        if review != row.review:
            yield row.n, review


def spoken_of(images: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Task and place of the corrections that are not revoked."""
    said = corrections.c
    query = sa.select(said.task, said.image, said.page, said.polygon).where(said.image.in_(images))
    query = query.where(~sa.exists().where(revocations.c.correction == said.id))
    for row in op.get_bind().execute(query):
        yield row.task, *place(row)


def place(row: Any) -> tuple[Any, ...]:
    """Image, page and whole pixels."""
    return row.image, row.page, tuple((round(x), round(y)) for x, y in json.loads(row.polygon))
