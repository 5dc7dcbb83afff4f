"""Nothing is acknowledged before it is on disk, and what cannot be written fails alone."""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_parts import new_store

from redpencil.blobs import Blobs, FolderBlobs
from redpencil.errors import NotFound, NotReady
from redpencil.ids import new_id
from redpencil.store import Store
from redpencil.types import Image, Page, Prediction, Task, Variant
from serving.journal import Entry, Journal


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as store:
        yield store


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs.open(str(tmp_path / "blobs"))


def entry(data: bytes, group: str = "g") -> Entry:
    sha256 = hashlib.sha256(data).hexdigest()
    image = Image(sha256, group, "image/png", time.time())
    pages = (Page(0, 10, 10),)
    prediction = Prediction(
        new_id("pred"), time.time(), sha256, Task.OCR, "ocr", "1", Variant.CHAMPION, pages, (), 1.0
    )
    return Entry(data, image, prediction)


async def put_all(journal: Journal, entries: list[Entry]) -> list[BaseException | None]:
    return list(await asyncio.gather(*(journal.put(e) for e in entries), return_exceptions=True))


class FullDisk(FolderBlobs):
    """A disk that fills up at images that begin with a given byte."""

    def _write(self, sha256: str, data: bytes) -> None:
        if data.startswith(b"!"):
            raise OSError(28, "No space left on device")
        super()._write(sha256, data)


def test_what_was_put_can_be_read_at_once_by_another_process(
    store: Store, blobs: Blobs, tmp_path: Path
) -> None:
    journal = Journal(store, blobs)
    made = entry(b"an image")
    asyncio.run(journal.put(made))
    with Store.open(f"sqlite:///{tmp_path / 'redpencil.db'}") as other:
        assert other.predictions.get(made.prediction.id) == made.prediction
    assert Blobs.open(str(tmp_path / "blobs")).get(made.image.sha256) == b"an image"
    journal.close()


def test_many_at_once_share_commits(store: Store, blobs: Blobs) -> None:
    commits: list[int] = []
    journal = Journal(store, blobs, lambda models, _seconds: commits.append(len(models)))
    entries = [entry(b"image %d" % i) for i in range(50)]
    assert asyncio.run(put_all(journal, entries)) == [None] * 50
    assert sum(commits) == 50
    assert len(commits) < 25
    assert all(store.predictions.get(e.prediction.id) for e in entries)
    journal.close()


def test_the_same_image_again_keeps_its_blob_and_its_first_group(
    store: Store, blobs: Blobs, tmp_path: Path
) -> None:
    journal = Journal(store, blobs)
    first, second = entry(b"same", "first"), entry(b"same", "second")
    asyncio.run(journal.put(first))
    [path] = (p for p in (tmp_path / "blobs").rglob("*") if p.is_file())
    before = path.stat()
    asyncio.run(journal.put(second))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    kept = store.images.get(first.image.sha256)
    assert kept is not None
    assert kept.group == "first"
    assert store.predictions.get(second.prediction.id)
    journal.close()


def test_a_full_disk_withholds_only_what_could_not_be_written(store: Store, tmp_path: Path) -> None:
    journal = Journal(store, FullDisk(tmp_path / "full"))
    entries = [entry(b"fits %d" % i) for i in range(3)] + [entry(b"!does not")]
    outcomes = asyncio.run(put_all(journal, entries))
    assert outcomes[:3] == [None] * 3
    assert isinstance(outcomes[3], NotReady)
    assert "No space left" in str(outcomes[3])
    with pytest.raises(NotFound):
        store.predictions.get(entries[3].prediction.id)
    assert asyncio.run(put_all(journal, [entry(b"later")])) == [None]
    journal.close()


def test_a_database_that_refuses_is_told_and_survived(store: Store, blobs: Blobs) -> None:
    journal = Journal(store, blobs)
    twice = entry(b"one")
    outcomes = asyncio.run(put_all(journal, [twice, twice, entry(b"two")]))
    assert outcomes[0] is None
    assert isinstance(outcomes[1], NotReady)
    assert outcomes[2] is None
    journal.close()


def test_closing_writes_what_still_waits(store: Store, blobs: Blobs) -> None:
    entries = [entry(b"image %d" % i) for i in range(20)]

    async def put_and_close() -> None:
        journal = Journal(store, blobs)
        waiting = asyncio.gather(*(journal.put(e) for e in entries))
        await asyncio.sleep(0)
        await asyncio.to_thread(journal.close)
        await waiting

    asyncio.run(put_and_close())
    assert all(store.predictions.get(e.prediction.id) for e in entries)


def test_a_request_that_went_away_harms_no_other(store: Store, blobs: Blobs) -> None:
    async def run() -> None:
        journal = Journal(store, blobs)
        gone = asyncio.create_task(journal.put(entry(b"gone")))
        stays = asyncio.create_task(journal.put(entry(b"stays")))
        await asyncio.sleep(0)
        gone.cancel()
        await stays
        await asyncio.to_thread(journal.close)

    asyncio.run(run())
