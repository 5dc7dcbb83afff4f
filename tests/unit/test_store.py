"""The store on SQLite: all that it promises everywhere, and what is particular to a file."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from store_parts import about, block, box, correction, image, prediction
from store_stories import *  # noqa: F403

from redpencil.errors import BadInput, Damaged, NotReady
from redpencil.settings import Settings
from redpencil.store import Store, waiting
from redpencil.types import Task


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("store") / "redpencil.db"
    Store.open(f"sqlite:///{file}", migrate=True).close()
    return file


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[Store]:
    """A migrated file of its own that does not wait for the disk: no power is cut here."""
    shutil.copy(template, tmp_path / "redpencil.db")
    with Store.open(f"sqlite:///{tmp_path / 'redpencil.db'}") as opened:
        opened.engine.dispose()
        event.listen(opened.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF"))
        yield opened


@pytest.fixture
def empty_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'new' / 'redpencil.db'}"


def test_every_commit_is_synced_to_disk(template: Path) -> None:
    with Store.open(f"sqlite:///{template}") as store, store.engine.connect() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert settings == ["wal", 2, 1, 30_000]


def test_a_database_without_tables_says_what_to_do(empty_url: str) -> None:
    with pytest.raises(NotReady, match="redpencil up"):
        Store.open(empty_url)


def test_who_starts_while_another_process_writes_waits_for_it(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "new.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    end = threading.Timer(0.3, other.execute, ["COMMIT"])
    end.start()
    with Store.open(f"sqlite:///{tmp_path / 'new.db'}", migrate=True) as store:
        assert store.ledger.list() == []
    end.join()
    other.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/x"])
def test_a_database_that_cannot_do_is_refused_in_words(url: str) -> None:
    with pytest.raises(BadInput, match=r"SQLite needs a file|only sqlite"):
        Store.open(url, migrate=True)


def test_a_damaged_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "redpencil.db").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(Damaged, match="not a database"):
        Store.open(f"sqlite:///{tmp_path / 'redpencil.db'}", migrate=True)


def test_a_path_that_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "redpencil.db").mkdir()
    with pytest.raises(NotReady, match="unable to open"):
        Store.open(f"sqlite:///{tmp_path / 'redpencil.db'}", migrate=True)


def test_a_full_disk_is_a_clear_error_and_loses_nothing(store: Store) -> None:
    picture = image("a")
    kept = prediction(picture)
    store.predictions.add_many([(picture, kept)])
    with store.engine.connect() as connection:  # the pool hands this connection out again
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
    with pytest.raises(NotReady, match="full"):
        store.predictions.add_many(
            [(picture, prediction(picture, client_key="x" * 10_000)) for _ in range(20)]
        )
    assert store.predictions.list() == [kept]
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    store.predictions.add_many([(picture, prediction(picture))])
    assert len(store.predictions.list()) == 2


def test_a_disk_that_fills_up_within_a_transaction_is_the_same_clear_error(store: Store) -> None:
    picture = image("a")
    store.images.add_many([picture])
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
    with pytest.raises(NotReady, match="full"), store.transaction():
        store.predictions.add_many(
            [(picture, prediction(picture, client_key="x" * 10_000)) for _ in range(20)]
        )
    assert store.predictions.list() == []


def test_the_queue_costs_no_more_for_all_that_was_ever_corrected(store: Store) -> None:
    def cost(corrected: int) -> int:
        """Steps of SQLite's machine to count, to find the least sure, and to know what was asked last."""
        steps, picture = [0], image(str(corrected))
        answer = prediction(
            picture, blocks=tuple(block(n, confidence=n / 2000) for n in range(corrected + 9))
        )
        store.predictions.add_many([(picture, answer)])
        store.corrections.add_many([about(answer, picture, b) for b in answer.blocks[:corrected]])
        with store.engine.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            raw.set_progress_handler(lambda: steps.append(1), 1)
            waiting.count(connection, "ocr")
            waiting.least_confident(connection, "ocr", 5)
            waiting.asked(connection, "ocr", 50)
            raw.set_progress_handler(None, 1)
        return len(steps)

    before = cost(100)
    assert cost(1500) < 1.5 * before


def test_of_a_caption_the_latest_of_each_author_lives(store: Store) -> None:
    picture = image("a")
    store.predictions.add_many([(picture, prediction(picture))])
    said = {
        name: correction(picture, name, author=author, task=Task.CAPTION, polygon=box(height=height))
        for name, author, height in (
            ("ann, once", "ann", 20.0),
            ("bob", "bob", 20.0),
            ("ann, again", "ann", 20.2),
            ("ann, of another region", "ann", 40.0),
            ("eve, by mistake", "eve", 20.0),
        )
    }
    store.corrections.add_many(list(said.values()))
    store.corrections.revoke(said["eve, by mistake"].id, "eve", "wrong image")
    live = [c.text for c in store.corrections.live(Task.CAPTION)]
    assert live == ["bob", "ann, again", "ann, of another region"]
    store.corrections.revoke(said["ann, again"].id, "ann", "no")
    assert "ann, once" in [c.text for c in store.corrections.live(Task.CAPTION)]


def test_of_a_line_the_latest_of_all_lives_whoever_read_it(store: Store) -> None:
    picture = image("a")
    store.predictions.add_many([(picture, prediction(picture))])
    by = [correction(picture, f"text of {author}", author=author) for author in ("ann", "bob")]
    store.corrections.add_many(by)
    assert [c.text for c in store.corrections.live(Task.OCR)] == ["text of bob"]


@pytest.mark.parametrize("name", ["100% sure?", "a#b", "Bücher"])
def test_a_home_may_have_any_name(tmp_path: Path, name: str) -> None:
    settings = Settings(home=tmp_path / name)
    Store.open(settings.database, migrate=True).close()
    assert (tmp_path / name / "redpencil.db").is_file()
