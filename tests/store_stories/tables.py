"""What is kept cannot be changed, and many threads and processes may write at once."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select
from sqlalchemy import text as sql
from sqlalchemy.exc import DBAPIError
from store_parts import (
    box,
    correction,
    entry,
    experiment,
    image,
    prediction,
    run,
)

from redpencil import snapshot
from redpencil.errors import Conflict, NotFound, NotReady
from redpencil.store import Store, schema
from redpencil.types import (
    Correction,
    Task,
)
from store_stories.told import at_once, doubted, stored

# --- the tables


def test_the_migrated_tables_are_those_that_the_code_knows(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []
        assert context.get_current_revision() == schema.REVISION


def test_partial_indexes_are_partial_in_the_database_too(store: Store) -> None:
    with store.engine.connect() as connection:
        place = "sqlite_master" if connection.dialect.name == "sqlite" else "pg_indexes"
        text, name = ("sql", "name") if connection.dialect.name == "sqlite" else ("indexdef", "indexname")
        for index in ("uq_runs_one_running", "uq_experiments_one_current", "ix_predictions_mirror_of"):
            definition = connection.execute(
                sql(f"SELECT {text} FROM {place} WHERE {name} = '{index}'")
            ).scalar_one()
            assert " WHERE " in definition


FROZEN = (
    *("corrections", "revocations", "ledger", "snapshots", "snapshot_members"),
    *("doubts", "confirmations"),
)


@pytest.mark.parametrize("table", FROZEN)
def test_what_was_said_cannot_be_changed_or_deleted(store: Store, table: str) -> None:
    picture, _ = stored(store)
    said = correction(picture)
    store.corrections.add_many([said])
    store.corrections.revoke(said.id, "ann", "a slip")
    store.corrections.add_many([correction(picture, polygon=box(50))])
    store.ledger.append(entry())
    snapshot.take(store, Task.OCR)
    doubted(store, said)
    store.doubts.confirm(said.id, "ann", "it is so")
    column = next(c.name for c in schema.metadata.tables[table].c if c.name not in ("n", "id"))
    for statement in (f'UPDATE {table} SET "{column}" = "{column}"', f"DELETE FROM {table}"):
        with pytest.raises(DBAPIError, match="only ever added"), store.engine.begin() as connection:
            connection.execute(sql(statement))


def test_an_image_cannot_be_moved_to_another_group(store: Store) -> None:
    stored(store)
    with pytest.raises(DBAPIError, match="only ever added"), store.engine.begin() as connection:
        connection.execute(sql("UPDATE images SET \"group\" = 'other'"))


# --- several writes as one


def test_what_is_written_in_a_transaction_is_kept_whole_or_not_at_all(store: Store) -> None:
    picture, _ = stored(store)
    first, second = correction(picture), correction(picture, polygon=box(50))

    def both(last: Correction) -> None:
        with store.transaction():
            store.corrections.add_many([first])
            assert store.corrections.get(first.id).text == first.text
            store.corrections.add_many([last])

    with pytest.raises(NotFound):
        both(correction(image("unknown")))
    assert store.corrections.list() == []
    both(second)
    assert {c.id for c, _ in store.corrections.list()} == {first.id, second.id}


def test_others_see_nothing_of_a_transaction_before_its_end(store: Store) -> None:
    with store.transaction():
        store.ledger.append(entry())
        assert at_once(lambda _: len(store.ledger.list()), 2) == [0, 0]
    assert len(store.ledger.list()) == 1


def test_of_a_transaction_that_part_alone_is_undone_that_failed(store: Store) -> None:
    store.experiments.start(experiment())
    with store.transaction():
        store.ledger.append(entry())
        with pytest.raises(Conflict):
            store.experiments.start(experiment())
        with store.transaction():
            store.ledger.append(entry())
    assert len(store.ledger.list()) == 2


def test_writers_of_transactions_take_turns(store: Store) -> None:
    store.runs.add(asked := run(progress={"step": 0}))

    def count(_: int) -> None:
        with store.transaction():
            store.runs.update(asked.id, phase="train")  # on PostgreSQL this locks the row
            step = store.runs.get(asked.id).progress["step"]
            store.runs.update(asked.id, progress={"step": step + 1})

    at_once(count, 8)
    assert store.runs.get(asked.id).progress == {"step": 8}


# --- many at once


def test_many_threads_write_and_read_without_ever_failing(store: Store) -> None:
    """Same images in opposite orders, which a careless store answers with a deadlock."""
    pictures = [image(str(n)) for n in range(20)]

    def work(n: int) -> int:
        order = pictures if n % 2 else pictures[::-1]
        for _ in range(5):
            store.predictions.add_many([(p, prediction(p)) for p in order])
            store.predictions.uncorrected("ocr", 5)
        return n

    assert at_once(work, 8) == list(range(8))
    with store.engine.connect() as connection:
        assert (
            connection.execute(select(func.count()).select_from(schema.predictions)).scalar_one()
            == 8 * 5 * 20
        )
        assert connection.execute(select(func.count()).select_from(schema.images)).scalar_one() == 20


def test_a_database_is_migrated_once_however_many_start_together(empty_url: str) -> None:
    def start(_: int) -> int:
        with Store.open(empty_url, migrate=True) as opened:
            return len(opened.ledger.list())

    assert at_once(start, 4) == [0] * 4


def test_a_database_of_a_later_redpencil_is_left_as_it_is(empty_url: str) -> None:
    with Store.open(empty_url, migrate=True) as opened, opened._db.write() as connection:
        connection.execute(sql("UPDATE alembic_version SET version_num = '9999'"))
    for migrate in (True, False):
        with pytest.raises(NotReady, match="tables of version 9999"):
            Store.open(empty_url, migrate=migrate)
