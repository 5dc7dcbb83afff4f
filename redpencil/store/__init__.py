"""Everything that must not be lost, in SQLite or PostgreSQL."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

from sqlalchemy import Engine

from redpencil.store import migrate as migration
from redpencil.store.corrections import Corrections
from redpencil.store.database import Database
from redpencil.store.doubts import Doubts
from redpencil.store.experiments import Experiments
from redpencil.store.idempotency import Idempotency, Replay
from redpencil.store.images import Images
from redpencil.store.ledger import Ledger
from redpencil.store.predictions import Predictions
from redpencil.store.replicas import Replicas
from redpencil.store.runs import Runs
from redpencil.store.serving import Serving
from redpencil.store.snapshots import Snapshots
from redpencil.store.unlearned import Unlearned
from redpencil.store.versions import Versions

__all__ = ["Replay", "Store"]


class Store:
    """The database, one attribute per noun. Threads may share it; processes open their own."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.images = Images(db)
        self.predictions = Predictions(db)
        self.corrections = Corrections(db)
        self.doubts = Doubts(db)
        self.unlearned = Unlearned(db)
        self.idempotency = Idempotency(db)
        self.snapshots = Snapshots(db)
        self.runs = Runs(db)
        self.versions = Versions(db)
        self.serving = Serving(db)
        self.ledger = Ledger(db)
        self.experiments = Experiments(db)
        self.replicas = Replicas(db)

    @classmethod
    def open(cls, url: str, migrate: bool = False) -> Store:
        """Connect to `sqlite:////path/file.db` or `postgresql://...`.

        With `migrate` the tables are made or brought up to date, else NotReady where they are not.
        """
        db = Database(url)
        try:
            if migrate:
                migration.upgrade(db)
            else:
                migration.check(db)
        except BaseException:
            db.engine.dispose()
            raise
        return cls(db)

    def transaction(self) -> AbstractContextManager[None]:
        """What this thread does to the store meanwhile is one transaction: all of it is kept, or nothing."""
        return self._db.transaction()

    @property
    def engine(self) -> Engine:
        return self._db.engine

    def close(self) -> None:
        self._db.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
