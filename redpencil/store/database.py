"""One way to read and one way to write, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, func, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from redpencil.blobs import make_durable_folder
from redpencil.errors import BadInput, Busy, Damaged, NotReady, RedpencilError

WAIT_S = 30
"""How long a writer waits for its turn, in this process and between processes."""


_UNUSABLE = ("unable to open", "no such table", "readonly database", "disk I/O error")
_DAMAGE = ("malformed", "not a database")


class Database:
    """An engine with the two kinds of transaction that the store knows.

    Threads of a process take turns in writing to SQLite by a lock, which is fair and quick;
    processes by SQLite's own lock, taken when the transaction begins, so that none fails halfway.
    """

    def __init__(self, url: str) -> None:
        self.engine = connect(_understood(url))
        self.lite = self.engine.dialect.name == "sqlite"
        self._turn = threading.Lock()
        self._here = threading.local()
        # SQLite's transactions see one state anyway; PostgreSQL's have to be told
        self._view = (
            self.engine if self.lite else self.engine.execution_options(isolation_level="REPEATABLE READ")
        )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view; within a `transaction` of this thread, of what that has come to."""
        with self._in_words():
            if self._mine is not None:
                yield self._mine
                return
            with self._view.begin() as connection:
                yield connection

    @contextmanager
    def write(self, alone: str | None = None) -> Iterator[Connection]:
        """One transaction, on disk when it returns. Of those with an equal `alone` one runs at a time.

        Within a `transaction` of this thread it is a part of that, and undone alone where it fails.
        """
        with self._in_words(), self._begun() as connection:
            if alone and not self.lite:
                lock = func.pg_advisory_xact_lock(func.hashtextextended(alone, 0))
                connection.execute(select(lock))
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that this thread writes and reads meanwhile is one transaction, on disk when it returns.

        Others may wait for it: whatever takes long is done before it begins.
        """
        with self.write() as connection:
            before, self._here.connection = self._mine, connection
            try:
                yield
            finally:
                self._here.connection = before

    @property
    def _mine(self) -> Connection | None:
        """The connection of the transaction that this thread is in."""
        return getattr(self._here, "connection", None)

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        if self._mine is not None:
            with self._part(self._mine):
                yield self._mine
            return
        with self._my_turn(), self.engine.execution_options(writing=True).begin() as connection:
            yield connection

    @contextmanager
    def _part(self, whole: Connection) -> Iterator[None]:
        """A savepoint. Of a transaction that SQLite itself has undone, on a full disk, nothing goes on."""
        part = whole.begin_nested()
        try:
            yield
        except BaseException:
            if self.lite and _undone(whole):
                whole.invalidate()
            else:
                part.rollback()
            raise
        part.commit()

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that knows ON CONFLICT."""
        return sqlite.insert(table) if self.lite else postgresql.insert(table)

    def add(self, connection: Connection, table: Table, row: dict[str, Any]) -> bool:
        """Insert a row unless its key is taken; says whether it was inserted."""
        insert = self.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
        return connection.execute(insert, row).rowcount == 1

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        if self.lite and not self._turn.acquire(timeout=WAIT_S):
            raise Busy(f"The database had no turn for this write within {WAIT_S} s. Try again.")
        try:
            yield
        finally:
            if self.lite:
                self._turn.release()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise Busy("All database connections are in use. Try again.") from error
        except DatabaseError as error:
            known = self._worded(error)
            if known is None:
                raise
            raise known from error

    def _worded(self, error: DatabaseError) -> RedpencilError | None:
        """The error for people; None where it is not the database's state but our own mistake."""
        said, name = str(error.orig).strip(), self.engine.url.render_as_string(hide_password=True)
        if "disk is full" in said or "No space left" in said:
            return NotReady(f"The disk of the database {name} is full. Nothing was stored; make room.", 30)
        if "database is locked" in said:
            return Busy(f"The database {name} was locked for {WAIT_S} s by another process. Try again.")
        if any(sign in said for sign in _DAMAGE):
            return Damaged(f"The database {name} is damaged: {said}. Restore it from a copy.")
        unusable = not self.lite or any(sign in said for sign in _UNUSABLE)
        if isinstance(error, OperationalError) and unusable:
            return NotReady(f"The database {name} cannot be used now: {said}")
        return None


def _undone(connection: Connection) -> bool:
    raw: Any = connection.connection.dbapi_connection
    return not raw.in_transaction


def connect(url: URL) -> Engine:
    """An engine whose transactions are durable on commit."""
    if url.get_backend_name() == "sqlite":
        return _connect_sqlite(url)
    return _connect_postgres(url)


def _connect_postgres(url: URL) -> Engine:
    engine = create_engine(url, pool_pre_ping=True, max_overflow=30, connect_args={"connect_timeout": 10})

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        connection.execute("SET jit = off")  # compiling took a second, of a query that takes ten milliseconds
        connection.commit()

    return engine


def _connect_sqlite(url: URL) -> Engine:
    engine = create_engine(url, max_overflow=60, pool_timeout=WAIT_S, connect_args={"timeout": WAIT_S})

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction by itself; `begin` does
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # WAL is synced at every commit

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _understood(url: str) -> URL:
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise BadInput(
            f"The database URL starts with {backend!r}; only sqlite:/// and postgresql:// are known."
        )
    if parsed.database in (None, "", ":memory:"):
        raise BadInput("SQLite needs a file, as several processes share it: sqlite:////path/to/redpencil.db")
    make_durable_folder(Path(str(parsed.database)).absolute().parent)
    return parsed
