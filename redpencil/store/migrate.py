"""Bring a database to the newest tables, once, however many processes start together."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

from sqlalchemy import Connection, inspect, select
from sqlalchemy import text as sql
from sqlalchemy.engine.interfaces import DBAPICursor

from redpencil.errors import Busy, NotReady
from redpencil.store.database import WAIT_S, Database
from redpencil.store.schema import REVISION

FOLDER = Path(__file__).parent / "migrations"
_one_at_a_time = threading.Lock()  # Alembic keeps its context in a global


def upgrade(db: Database) -> None:
    """Run every migration that is missing; a no-op where none is. Safe under concurrent starts.

    NotReady where the tables are of a later Redpencil.
    """
    found = present(db)
    if found == REVISION:
        return
    if found and found > REVISION:
        raise NotReady(_other(db, found) + "It is of a later Redpencil: start that one.")
    if db.lite:
        _use_wal(db)
    with _one_at_a_time, db.write(alone="migrate") as connection:
        run(connection)


def check(db: Database) -> None:
    """Raise NotReady unless the tables are those that this code knows."""
    found = present(db)
    if found != REVISION:
        raise NotReady(_other(db, found) + "Start `redpencil up`, which migrates it.")


def _other(db: Database, found: str | None) -> str:
    return (
        f"The database {db.engine.url.render_as_string(hide_password=True)} has tables of version "
        f"{found or 'none'}, this code needs {REVISION}. "
    )


def present(db: Database) -> str | None:
    """The migration that the database is at, None where it is empty."""
    with db.read() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(select(sql("version_num FROM alembic_version"))).scalar_one_or_none()


def run(connection: Connection, revision: str = "head") -> None:
    """Upgrade inside the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _use_wal(db: Database) -> None:
    """Kept in the file for good; every later connection finds it so.

    For this SQLite does not wait while another process writes, as it does for all else: so we do.
    """
    raw, deadline = db.engine.raw_connection(), time.monotonic() + WAIT_S
    try:
        while not _switched(raw.cursor()):
            if time.monotonic() > deadline:
                raise Busy(f"The database {db.engine.url.database} is in use by another process. Try again.")
            time.sleep(0.05)
    finally:
        raw.close()


def _switched(cursor: DBAPICursor) -> bool:
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return False
    return True
