"""Blobs in a folder: durable when put, verified when got."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from redpencil.blobs import Blobs, write_durably
from redpencil.errors import BadInput, Damaged, NotFound, RedpencilError

SOME = hashlib.sha256(b"some").hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs.open(str(tmp_path / "deep" / "blobs"))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_was_put_is_got_by_its_hash(blobs: Blobs) -> None:
    assert not blobs.has(SOME)
    assert blobs.put(b"some") == SOME
    assert blobs.has(SOME)
    assert blobs.get(SOME) == b"some"
    path = blobs.path(SOME)
    assert path is not None
    assert path.read_bytes() == b"some"


def test_a_folder_can_be_named_as_a_file_url(tmp_path: Path) -> None:
    Blobs.open(f"file://{tmp_path}/a%20b").put(b"some")
    assert files(tmp_path / "a b")


def test_many_are_put_at_once_and_come_back_in_order(blobs: Blobs) -> None:
    items = [bytes([n]) * n for n in range(40)] + [b"twice", b"twice"]
    hashes = blobs.put_many(items)
    assert hashes == [hashlib.sha256(item).hexdigest() for item in items]
    assert [blobs.get(h) for h in hashes] == items
    assert blobs.put_many([]) == []
    assert blobs.put_many([b"some"]) == [SOME]


def test_an_unknown_blob_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(NotFound, match=SOME):
        blobs.get(SOME)
    assert blobs.path(SOME) is None


@pytest.mark.parametrize("name", ["", "../../etc/passwd", SOME.upper(), SOME[:-1], SOME + "0"])
def test_only_a_sha256_names_a_blob(blobs: Blobs, name: str) -> None:
    for ask in (blobs.get, blobs.has, blobs.path):
        with pytest.raises(BadInput, match="sha256"):
            ask(name)


def test_damage_is_noticed_and_putting_again_heals_it(blobs: Blobs) -> None:
    blobs.put(b"some")
    path = blobs.path(SOME)
    assert path is not None
    for rot in (b"sore", b"so", b""):
        path.write_bytes(rot)
        with pytest.raises(Damaged, match=SOME):
            blobs.get(SOME)
        blobs.put(b"some")
        assert blobs.get(SOME) == b"some"


def test_threads_may_put_the_same_blob_at_once(blobs: Blobs, tmp_path: Path) -> None:
    data = os.urandom(100_000)
    with ThreadPoolExecutor(8) as pool:
        [name] = set(pool.map(blobs.put, [data] * 32))
    assert blobs.get(name) == data
    assert len(files(tmp_path)) == 1


def test_bytes_are_on_disk_before_their_name_and_the_name_before_put_returns(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        sync(descriptor)
        done.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.split(".")[-1])

    def noted_replace(path: Path, target: Path) -> Path:
        done.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    blobs.put(b"some")
    assert done == ["sync blobs", "sync part", "rename", f"sync {SOME[:2]}"]


def test_no_half_file_stays_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"before")

    def fail(_: int) -> None:
        raise OSError(5, "the disk died")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="died"):
        write_durably(tmp_path / "file", b"after")
    assert [p.read_bytes() for p in files(tmp_path)] == [b"before"]


def test_a_full_disk_is_a_clear_error_and_leaves_no_half_file(blobs: Blobs, tmp_path: Path) -> None:
    """The process may write 64 KiB into a file: what the kernel says then is handled like a full disk."""
    blobs.put(b"some")
    script = f"""
import os, resource, signal
from redpencil.blobs import Blobs
from redpencil.errors import NotReady
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
blobs = Blobs.open({str(tmp_path / "deep" / "blobs")!r})
big = [os.urandom(10**6), os.urandom(10**6)]
for put in (lambda: blobs.put(big[0]), lambda: blobs.put_many(big)):
    try:
        put()
    except NotReady as error:
        print(error)
blobs.put(b"small things still go in")
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.count("is full. Nothing was stored") == 2
    assert len(files(tmp_path)) == 2


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RedpencilError, match="cannot be written"):
        Blobs.open(str(tmp_path / "file" / "blobs"))
