"""The store on a real PostgreSQL, started for these tests: the same promises as on SQLite."""

import itertools
import time
from collections.abc import Iterator
from types import SimpleNamespace

import postgres_parts
import psycopg
import pytest
from sqlalchemy import make_url
from sqlalchemy import text as sql
from sqlalchemy.exc import DBAPIError
from store_parts import entry, prediction
from store_stories import *  # noqa: F403
from store_stories.told import stored

from redpencil import patience
from redpencil.errors import NotReady
from redpencil.store import Store, schema
from training import track

needs_postgres = pytest.mark.skipif(
    not (postgres_parts.BINARIES / "initdb").exists(),
    reason="PostgreSQL's server is not installed (apt: postgresql)",
)
pytestmark = needs_postgres
_names = (f"test{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_parts.cluster() as url:
        yield url


@pytest.fixture(scope="module")
def migrated(server: str) -> Iterator[Store]:
    with Store.open(postgres_parts.create(server, "migrated"), migrate=True) as opened:
        yield opened


@pytest.fixture
def store(migrated: Store) -> Iterator[Store]:
    """One database for all, emptied after each: quicker than one each."""
    yield migrated
    every = ", ".join(schema.metadata.tables)
    with migrated.engine.begin() as connection:
        connection.execute(sql("SET LOCAL session_replication_role = replica"))  # triggers rest
        connection.execute(sql(f"TRUNCATE {every} RESTART IDENTITY"))


@pytest.fixture
def empty_url(server: str) -> str:
    return postgres_parts.create(server, next(_names))


def test_history_cannot_be_truncated(store: Store) -> None:
    stored(store)
    for table in ("corrections", "revocations", "ledger", "snapshots", "snapshot_members"):
        with pytest.raises(DBAPIError, match="only ever added"), store.engine.begin() as connection:
            connection.execute(sql(f"TRUNCATE {table} CASCADE"))


def test_ids_sort_byte_by_byte_whatever_the_locale(store: Store) -> None:
    with store.engine.connect() as connection:
        query = (
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
        )
        query += "AND data_type = 'character varying' AND coalesce(collation_name, '') <> 'C' "
        query += "AND table_name <> 'alembic_version'"
        assert connection.execute(sql(query)).all() == []


def cut_off(store: Store) -> None:
    """The server ends all connections but the one that asks for it."""
    with store.engine.connect() as killer:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        killer.execute(sql(others + " AND datname = current_database()"))


def test_a_server_that_goes_away_is_a_clear_error_and_its_return_is_noticed(store: Store) -> None:
    picture, _ = stored(store)
    with store.engine.connect():
        cut_off(store)
    store.predictions.add_many([(picture, prediction(picture))])
    assert len(store.predictions.list()) == 2


def test_a_server_that_goes_away_within_a_transaction_keeps_nothing_of_it(store: Store) -> None:
    def half() -> None:
        with store.transaction():
            store.ledger.append(entry())
            cut_off(store)
            store.ledger.append(entry())

    with pytest.raises(NotReady, match="cannot be used now"):
        half()
    assert store.ledger.list() == []


def test_a_run_waits_for_a_server_that_takes_no_connections(
    server: str, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taking(connections: bool) -> None:
        name = make_url(empty_url).database
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {connections}")  # type: ignore[call-overload]

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: taking(connections=True))
    monkeypatch.setattr(patience, "time", clock)
    with Store.open(empty_url, migrate=True) as store:
        store.engine.dispose()
        taking(connections=False)
        with pytest.raises(NotReady, match="not currently accepting connections"):
            store.runs.list()
        assert track.patiently(store.runs.list) == []


def test_a_server_that_is_not_there_is_not_ready() -> None:
    with pytest.raises(NotReady, match="cannot be used now"):
        Store.open("postgresql://redpencil@127.0.0.1:9/none")


def test_a_password_is_not_in_the_error() -> None:
    with pytest.raises(NotReady) as refused:
        Store.open("postgresql://redpencil:s3cret@127.0.0.1:9/none")
    assert "s3cret" not in str(refused.value)
