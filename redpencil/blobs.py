"""Images and bundles by the hash of their content: a local folder or S3."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from redpencil.errors import BadInput, Damaged, NotFound, NotReady, RedpencilError

_HASH = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRITERS = 16


class Blobs(ABC):
    """Bytes by their sha256. What `put` returned is durable, what `get` returns is what was put."""

    @staticmethod
    def open(url: str) -> Blobs:
        """A folder (made if missing) or s3://bucket/prefix; AWS_ENDPOINT_URL is honoured."""
        parsed = urlparse(url)
        if parsed.scheme == "s3":
            return BucketBlobs(parsed.netloc, parsed.path.strip("/"))
        return FolderBlobs(Path(unquote(parsed.path) if parsed.scheme == "file" else url))

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="blobs")

    def put(self, data: bytes) -> str:
        """Store bytes and return their sha256; on disk when it returns."""
        sha256 = hashlib.sha256(data).hexdigest()
        self._write(sha256, data)
        return sha256

    def put_many(self, items: Sequence[bytes]) -> list[str]:
        """Store several at once, which is quicker than one after the other; hashes in order."""
        hashes = [hashlib.sha256(data).hexdigest() for data in items]
        by_hash = dict(zip(hashes, items, strict=True))
        if len(by_hash) == 1:
            self._write(*by_hash.popitem())
        else:
            list(self._pool.map(self._write, by_hash.keys(), by_hash.values()))
        return hashes

    def get(self, sha256: str) -> bytes:
        """The bytes, verified: NotFound where there are none, Damaged where they are others."""
        data = self._read(_checked(sha256))
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Damaged(f"What is stored as {sha256} has another hash: the storage is damaged. Restore it.")
        return data

    def has(self, sha256: str) -> bool:
        return self._exists(_checked(sha256))

    def path(self, sha256: str) -> Path | None:
        """Where the bytes lie as a file on this machine; None where they do not."""
        return None

    def close(self) -> None:
        self._pool.shutdown()

    @abstractmethod
    def _write(self, sha256: str, data: bytes) -> None: ...

    @abstractmethod
    def _read(self, sha256: str) -> bytes: ...

    @abstractmethod
    def _exists(self, sha256: str) -> bool: ...


class FolderBlobs(Blobs):
    """ab/abcdef...: written beside, synced, renamed, and the folder synced."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root.absolute()
        self._ready: set[Path] = set()
        with _space(self._root):
            make_durable_folder(self._root)

    def path(self, sha256: str) -> Path | None:
        path = self._place(_checked(sha256))
        return path if path.exists() else None

    def _place(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256

    def _write(self, sha256: str, data: bytes) -> None:
        path = self._place(sha256)
        with _space(self._root):
            self._make_folder(path.parent)
            if not _holds(path, data):
                write_durably(path, data)
            _sync_folder(path.parent)  # also for one that another thread has just renamed into place

    def _make_folder(self, folder: Path) -> None:
        if folder not in self._ready:
            folder.mkdir(exist_ok=True)
            _sync_folder(self._root)
            self._ready.add(folder)

    def _read(self, sha256: str) -> bytes:
        try:
            return self._place(sha256).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"There is no blob {sha256}.") from error

    def _exists(self, sha256: str) -> bool:
        return self._place(sha256).exists()


class BucketBlobs(Blobs):
    """Objects prefix/ab/abcdef... in an S3 bucket; the server checks the hash of what it got."""

    def __init__(self, bucket: str, prefix: str) -> None:
        super().__init__()
        if not bucket:
            raise BadInput("An S3 address names its bucket: s3://bucket/prefix")
        self._bucket, self._prefix = bucket, prefix
        self._client = _s3_client()

    def _name(self, sha256: str) -> str:
        return "/".join(part for part in (self._prefix, sha256[:2], sha256) if part)

    def _write(self, sha256: str, data: bytes) -> None:
        import base64

        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        where = {"Bucket": self._bucket, "Key": self._name(sha256)}
        with self._in_words(sha256):
            self._client.put_object(**where, Body=data, ChecksumSHA256=checksum)

    def _read(self, sha256: str) -> bytes:
        with self._in_words(sha256):
            body = self._client.get_object(Bucket=self._bucket, Key=self._name(sha256))["Body"]
            return bytes(body.read())

    def _exists(self, sha256: str) -> bool:
        try:
            with self._in_words(sha256):
                self._client.head_object(Bucket=self._bucket, Key=self._name(sha256))
        except NotFound:
            return False
        return True

    @contextmanager
    def _in_words(self, sha256: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in ("NoSuchKey", "404"):
                raise NotFound(f"There is no blob {sha256} in s3://{self._bucket}/{self._prefix}.") from error
            raise NotReady(f"S3 bucket {self._bucket} refused: {error}") from error
        except BotoCoreError as error:
            raise NotReady(f"S3 bucket {self._bucket} cannot be reached: {error}") from error


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file whole or not at all; its bytes are on disk before its name is."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def make_durable_folder(folder: Path) -> None:
    """Make a folder and its parents, known to the disk."""
    if not folder.is_dir():
        make_durable_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file has these bytes already; one that was damaged is written anew."""
    return path.exists() and path.stat().st_size == len(data) and path.read_bytes() == data


@contextmanager
def _space(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NotReady(f"The disk under {root} is full. Nothing was stored; make room.", 30) from error
        raise RedpencilError(f"The folder {root} cannot be written: {error}") from error


def _checked(sha256: str) -> str:
    if not _HASH.fullmatch(sha256):
        raise BadInput(f"{sha256[:80]!r} is no sha256: 64 hex digits in lower case.")
    return sha256


def _s3_client() -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        max_pool_connections=_WRITERS,
        connect_timeout=5,
        retries={"max_attempts": 3, "mode": "standard"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client("s3", config=config)
