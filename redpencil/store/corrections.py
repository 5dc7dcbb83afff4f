"""What people stated to be the truth; only ever added, and revoked by a row of its own."""

from __future__ import annotations

import builtins
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Row,
    Select,
    and_,
    case,
    func,
    literal,
    select,
)
from sqlalchemy.exc import IntegrityError

from redpencil.errors import Conflict, NotFound
from redpencil.store import schema, waiting
from redpencil.store.database import Database
from redpencil.store.images import in_turn
from redpencil.store.paging import chunks, page
from redpencil.store.places import Place, is_live, place
from redpencil.types import Correction, CorrectionState, Image, Kind, Split, Task

DEPLOYING = ("promote", "rollback", "override", "adopt")
"""Ledger actions that make their `to_version` the champion."""

_corrections, _images, _revocations = schema.corrections, schema.images, schema.revocations
_members, _versions, _ledger = schema.snapshot_members, schema.versions, schema.ledger
_doubts = schema.doubts


@dataclass(frozen=True, slots=True)
class Revocation:
    """Who took which correction back, when and why."""

    correction: str
    at: float
    who: str
    why: str


class Corrections:
    def __init__(self, db: Database) -> None:
        self._db = db

    def add_many(self, items: Sequence[Correction], revoked: Sequence[Revocation] = ()) -> None:
        """Store corrections, and take some back, in one transaction, on disk when it returns.

        The group of a correction is always that of its image, as first kept. What they speak of leaves the
        review queue; where nothing else is said of it, what is taken back returns there.
        """
        if not items and not revoked:
            return
        try:
            with self._db.write() as connection:
                pages = {(c.image, c.page) for c in items} | _spoken_of(connection, revoked)
                images = {image for image, _ in pages}
                _check(connection, items, in_turn(connection, images))
                if items:
                    connection.execute(_corrections.insert(), [_row(c) for c in items])
                for revocation in revoked:
                    self._db.add(connection, _revocations, asdict(revocation))
                waiting.settle(connection, images, {number for _, number in pages})
        except IntegrityError as error:
            raise Conflict("The same corrections are being stored by somebody else. Try again.") from error

    def get(self, id: str) -> Correction:
        with self._db.read() as connection:
            row = connection.execute(whole().where(_corrections.c.id == id)).one_or_none()
        if row is None:
            raise NotFound(f"There is no correction {id}.")
        return correction_of(row)

    def list(
        self,
        task: Task | None = None,
        author: str | None = None,
        state: CorrectionState | None = None,
        image: str | None = None,
        prediction: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[tuple[Correction, CorrectionState]]:
        """Newest first, each with its state; `after` is the last id of the page before."""
        given = {"task": task, "author": author, "image": image, "prediction": prediction}
        query = whole().add_columns(_state().label("state"))
        query = query.where(
            *(_corrections.c[name] == value for name, value in given.items() if value is not None)
        )
        if state is not None:
            query = query.where(_state() == CorrectionState(state).value)
        with self._db.read() as connection:
            rows = connection.execute(page(connection, query, _corrections, after, limit)).all()
        return [(correction_of(row), CorrectionState(row.state)) for row in rows]

    def last_word(self, prediction: str, region: str) -> Correction | None:
        """What counts of a line that was read: its latest correction that is not revoked.

        Whoever asks in a transaction is alone with that prediction until it ends.
        """
        line = _corrections.c.prediction == prediction, _corrections.c.region == region
        query = whole().where(*line, is_live(_corrections.c.id)).order_by(_corrections.c.n.desc())
        with self._db.write(alone=f"lines:{prediction}") as connection:
            row = connection.execute(query.limit(1)).one_or_none()
        return None if row is None else correction_of(row)

    def revoke(self, id: str, who: str, why: str) -> None:
        """Take a correction back for good; revoking twice changes nothing."""
        self.get(id)
        self.add_many([], [Revocation(id, time.time(), who, why)])

    def revocation(self, id: str) -> dict[str, Any] | None:
        """Who revoked it, when and why; None where nobody did."""
        with self._db.read() as connection:
            row = connection.execute(
                select(_revocations).where(_revocations.c.correction == id)
            ).one_or_none()
        return None if row is None else dict(row._mapping)

    def state_of(self, ids: Iterable[str]) -> dict[str, CorrectionState]:
        """The states of those of the ids that are known."""
        states: dict[str, CorrectionState] = {}
        with self._db.read() as connection:
            for some in chunks(list(ids)):
                query = select(_corrections.c.id, _state().label("state")).where(_corrections.c.id.in_(some))
                states |= {row.id: CorrectionState(row.state) for row in connection.execute(query)}
        return states

    def live(self, task: Task) -> builtins.list[Correction]:
        """What is held to be true now, ordered by id: of several for one place the latest, none revoked.

        A caption may be said in several ways: there it is the latest of each author.
        """
        latest = {_key(task, c): c for c in self._live_where(_corrections.c.task == task.value)}
        return sorted(latest.values(), key=lambda c: c.id)

    def current(self, task: Task, ids: Select[Any] | CompoundSelect[Any]) -> set[str]:
        """Those of some corrections that `live` would give, at the price of what is said of their images."""
        table = _corrections.c
        images = select(table.image).where(table.id.in_(ids))
        query = select(table.id, table.image, table.page, table.polygon, table.author)
        query = query.where(table.task == task.value, table.image.in_(images), is_live(table.id))
        with self._db.read() as connection:
            asked: set[str] = {row.id for row in connection.execute(ids)}
            rows = connection.execute(query.order_by(table.created_at, table.n))
            latest = {_key(task, row): row.id for row in rows}
        return asked.intersection(latest.values())

    def history(self, task: Task) -> dict[str, builtins.list[Correction]]:
        """By the latest correction of each place all that was said of it, oldest first; none revoked."""
        said: dict[Any, builtins.list[Correction]] = {}
        for c in self._live_where(_corrections.c.task == task.value):
            said.setdefault(place(c), []).append(c)
        return {all[-1].id: all for all in said.values()}

    def count_since(self, task: Task, ts: float) -> int:
        """How many corrections, not revoked since, were made after a time."""
        with self._db.read() as connection:
            return count_live(connection, _corrections.c.task == task.value, _corrections.c.created_at > ts)

    def for_versions(self, model: str, versions: Sequence[str], since: float) -> builtins.list[Correction]:
        """All that was said of answers that these versions gave, oldest first; none revoked."""
        table = _corrections.c
        return self._live_where(table.model == model, table.version.in_(versions), table.created_at >= since)

    def captions_of(self, images: Collection[str]) -> builtins.list[Correction]:
        """What is said of some images in captions, of each oldest first; none revoked.

        Of those who ask in a transaction one is alone with all captions until it ends.
        """
        table, said = _corrections.c, builtins.list[Correction]()
        with self._db.write(alone="captions"):
            for some in chunks(sorted(images)):
                said += self._live_where(table.task == Task.CAPTION.value, table.image.in_(some))
        return said

    def _live_where(self, *conditions: ColumnElement[bool]) -> builtins.list[Correction]:
        query = whole().where(*conditions, is_live(_corrections.c.id))
        with self._db.read() as connection:
            rows = connection.execute(query.order_by(_corrections.c.created_at, _corrections.c.n)).all()
        return [correction_of(row) for row in rows]


def _key(task: Task, c: Any) -> tuple[Place, str]:
    """Of what says the same only the latest holds."""
    return place(c), c.author if task is Task.CAPTION else ""


def count_live(connection: Connection, *conditions: ColumnElement[bool]) -> int:
    """How many of some are not revoked: all without the few that are, which is by far quicker."""
    every = select(func.count()).select_from(_corrections).where(*conditions)
    same = select(1).where(_corrections.c.id == _revocations.c.correction, *conditions)
    revoked = select(func.count()).select_from(_revocations).where(same.exists())
    return connection.execute(every).scalar_one() - connection.execute(revoked).scalar_one()


def left_out(id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether the run that made a version doubted a correction and did not learn from it."""
    row = and_(_doubts.c.run == _versions.c.run, _doubts.c.correction == id, _doubts.c.left_out)
    return select(1).where(row).correlate_except(_doubts).exists()


def _state() -> ColumnElement[str]:
    """How far a correction has come, as SQL over what happened to it."""
    held = _members.c.correction == _corrections.c.id
    learned = and_(
        held,
        _members.c.split == Split.TRAIN.value,
        _versions.c.snapshot == _members.c.snapshot,
        ~left_out(_corrections.c.id),
    )
    made_champion = and_(
        learned,
        _ledger.c.model == _versions.c.model,
        _ledger.c.to_version == _versions.c.version,
        _ledger.c.action.in_(DEPLOYING),
    )
    return case(
        (_some(_revocations.c.correction == _corrections.c.id), CorrectionState.REVOKED.value),
        (_some(made_champion), CorrectionState.DEPLOYED.value),
        (_some(learned), CorrectionState.TRAINED.value),
        (_some(held), CorrectionState.SNAPSHOTTED.value),
        else_=CorrectionState.SUBMITTED.value,
    )


def _some(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """EXISTS, looked up row by row: PostgreSQL would first hash all that exists, for a page of fifty."""
    return select(literal(1)).where(condition).limit(1).correlate(_corrections).scalar_subquery().is_not(None)


def _spoken_of(connection: Connection, revoked: Sequence[Revocation]) -> set[tuple[str, int]]:
    """The images and their pages that corrections are about."""
    found: set[tuple[str, int]] = set()
    for some in chunks([r.correction for r in revoked]):
        query = select(_corrections.c.image, _corrections.c.page).where(_corrections.c.id.in_(some))
        found |= {(row.image, row.page) for row in connection.execute(query)}
    return found


def _check(connection: Connection, items: Sequence[Correction], known: Mapping[str, Image]) -> None:
    unknown = sorted({c.image for c in items} - known.keys())
    if unknown:
        raise NotFound(f"Image {unknown[0]} is not known here. Send it for a prediction first.")
    for some in chunks([c.id for c in items]):
        there = connection.scalars(select(_corrections.c.id).where(_corrections.c.id.in_(some))).first()
        if there is not None:
            raise Conflict(
                f"Correction {there} exists already, and corrections are never edited. Add a new one."
            )


def whole() -> Select[Any]:
    """Corrections with the group of their image, as `correction_of` takes them."""
    return select(_corrections, _images.c.group).join(_images, _images.c.sha256 == _corrections.c.image)


def _row(c: Correction) -> dict[str, Any]:
    columns = (column.name for column in _corrections.c if column.name != "n")
    return {name: getattr(c, name) for name in columns}


def correction_of(row: Row[Any]) -> Correction:
    fields = {name: value for name, value in row._mapping.items() if name not in ("n", "state")}
    fields |= {"task": Task(row.task), "kind": Kind(row.kind)}
    fields["polygon"] = tuple((float(x), float(y)) for x, y in row.polygon)
    return Correction(**fields)
