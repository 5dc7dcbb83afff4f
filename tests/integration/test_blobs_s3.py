"""Blobs in a bucket, on moto's S3 server: real HTTP, boto3 as in production."""

import hashlib
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from redpencil.blobs import Blobs
from redpencil.errors import BadInput, Damaged, NotFound, NotReady

SOME = hashlib.sha256(b"some").hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    account = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in {"AWS_ENDPOINT_URL": server, **account}.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def blobs(bucket: str) -> Iterator[Blobs]:
    opened = Blobs.open(f"s3://{bucket}/house/blobs/")
    yield opened
    opened.close()


def names(bucket: str) -> list[str]:
    return [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_what_was_put_is_got_by_its_hash(blobs: Blobs, bucket: str) -> None:
    assert not blobs.has(SOME)
    assert blobs.put(b"some") == SOME
    assert blobs.has(SOME)
    assert blobs.get(SOME) == b"some"
    assert blobs.path(SOME) is None
    assert names(bucket) == [f"house/blobs/{SOME[:2]}/{SOME}"]


def test_a_bucket_needs_no_prefix(bucket: str) -> None:
    Blobs.open(f"s3://{bucket}").put(b"some")
    assert names(bucket) == [f"{SOME[:2]}/{SOME}"]


def test_many_are_put_at_once_and_come_back_in_order(blobs: Blobs) -> None:
    items = [bytes([n]) * 1000 for n in range(30)]
    assert [blobs.get(name) for name in blobs.put_many(items)] == items


def test_an_unknown_blob_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(NotFound, match=SOME):
        blobs.get(SOME)


def test_damage_is_noticed(blobs: Blobs, bucket: str) -> None:
    blobs.put(b"some")
    boto3.client("s3").put_object(Bucket=bucket, Key=names(bucket)[0], Body=b"sore")
    with pytest.raises(Damaged, match=SOME):
        blobs.get(SOME)


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_is_not_there_is_a_clear_error() -> None:
    missing = Blobs.open("s3://nowhere/x")
    with pytest.raises(NotReady, match="nowhere refused"):
        missing.put(b"some")
    with pytest.raises(BadInput, match="names its bucket"):
        Blobs.open("s3:///x")


@pytest.mark.usefixtures("bucket")
def test_a_server_that_is_down_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(NotReady, match="cannot be reached"):
        Blobs.open("s3://bucket").get(SOME)
