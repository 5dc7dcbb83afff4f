"""Serving follows the desired state, one reference at a time, and keeps going when it cannot."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import tiny_bundle
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException
from serving_parts import MODEL, Home
from sqlalchemy import text

from redpencil import bundle
from redpencil.bundle import Manifest
from redpencil.errors import Damaged, NotFound
from redpencil.reader import LineReader
from redpencil.types import ModelVersion, Outcome, Precision, Variant, Verdict
from serving.follow import Follower, Loader, Serving


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.close()


def follower(home: Home) -> Follower:
    loader = Loader(home.store, home.blobs, MODEL, home.settings.home / "bundles", "cpu")
    return Follower(home.store, loader, MODEL, "replica-1", poll_s=0.02)


def reads(serving: Serving, version: str) -> str:
    return serving.readers[version].bundle.read(tiny_bundle.paint("hello")).text


def beat(home: Home) -> dict[str, object]:
    [row] = home.store.replicas.list(MODEL)
    return row


def damage(home: Home, version: str) -> None:
    """Overwrite the graph that serving would load."""
    manifest = Manifest.load(home.settings.home / "made" / version)
    path = home.blobs.path(manifest.graphs[manifest.precision].sha256)
    assert path is not None
    path.write_bytes(b"rotten")


def test_before_the_first_champion_it_says_why_it_is_not_ready(home: Home) -> None:
    following = follower(home)
    following.step()
    assert following.why_not_ready() == "no version of ocr is champion yet"
    home.serve("1")
    following.step()
    assert following.why_not_ready() is None
    assert reads(following.current, "1") == "hello"


def test_all_three_roles_are_kept_warm_and_told(home: Home) -> None:
    following = follower(home)
    home.serve("1", challenger="2", previous="3", weight=0.5)
    following.step()
    assert set(following.current.readers) == {"1", "2", "3"}
    row = beat(home)
    assert (row["champion"], row["challenger"], row["previous"]) == ("1", "2", "3")
    assert (row["revision"], row["error"]) == (1, None)


def test_a_swap_is_one_reference_and_old_readers_serve_who_holds_them(home: Home) -> None:
    following = follower(home)
    home.serve("1")
    following.step()
    held = following.current
    home.serve("2", previous="1")
    following.step()
    assert reads(following.current, "2") == "hcllo"
    assert held.state.champion == "1"
    assert reads(held, "1") == "hello"
    assert following.current.readers["1"] is held.readers["1"]


def test_a_rollback_loads_nothing(home: Home) -> None:
    following = follower(home)
    home.serve("2", previous="1")
    following.step()
    before = following.current.readers
    home.serve("1", previous="2")
    following.step()
    assert following.current.readers["1"] is before["1"]
    assert following.current.readers["2"] is before["2"]


def test_the_precision_that_the_gate_let_in_is_served_from_the_promotion_on(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the version read along before it was judged, in INT8."""
    tiny_bundle.build(tmp_path / "made", misread_int8={"e": "c"})
    made = bundle.put(tmp_path / "made", home.blobs)
    home.store.versions.add(ModelVersion(MODEL, "9", made, time.time()))
    following = follower(home)
    home.serve("1", challenger="9", mirror=0.5)
    following.step()
    assert following.current.readers["9"].bundle.precision is Precision.INT8
    said = Verdict(Outcome.PASSED, (), Precision.FP32, {}, {}, "9", "1", time.time())
    home.store.versions.put_verdict(MODEL, "9", said)
    home.serve("9", previous="1")
    following.step()
    assert following.current.readers["9"].bundle.precision is Precision.FP32
    assert reads(following.current, "9") == "hello"
    home.store.versions.put_verdict(MODEL, "9", replace(said, precision=Precision.INT8))  # judged anew
    monkeypatch.setattr(following, "_retry_at", 0.0)
    following.step()
    assert following.current.readers["9"].bundle.precision is Precision.INT8


def test_weights_come_with_the_state(home: Home) -> None:
    following = follower(home)
    home.serve("1", challenger="2", weight=1.0)
    following.step()
    assert following.current.assign("anyone")[1].variant is Variant.CHALLENGER
    home.serve("1", challenger="2", weight=0.0)
    following.step()
    assert following.current.assign("anyone")[1].variant is Variant.CHAMPION


def test_a_champion_that_cannot_be_loaded_leaves_the_old_one(home: Home) -> None:
    following = follower(home)
    home.serve("1")
    following.step()
    damage(home, "2")
    home.serve("2", previous="1")
    following.step()
    assert following.current.state.champion == "1"
    assert "version 2 cannot be loaded" in str(beat(home)["error"])
    home.serve("1")
    following.step()
    assert beat(home)["error"] is None


@pytest.mark.parametrize("error", [RuntimeException("CUDA out of memory"), MemoryError("none left")])
def test_whatever_keeps_a_version_from_loading_leaves_the_old_one(
    home: Home, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    following = follower(home)
    home.serve("1")
    following.step()
    with monkeypatch.context() as patched:
        patched.setattr(LineReader, "warm", Mock(side_effect=error))
        home.serve("2", previous="1")
        following.step()
    assert following.current.state.champion == "1"
    assert f"version 2 cannot be loaded: {error}" in str(beat(home)["error"])


def test_a_broken_challenger_gets_no_traffic_and_stops_nothing(home: Home) -> None:
    following = follower(home)
    damage(home, "2")
    home.serve("1", challenger="2", weight=1.0, mirror=1.0)
    following.step()
    reader, assignment = following.current.assign("anyone")
    assert (reader.version, assignment.variant, assignment.mirror) == ("1", Variant.CHAMPION, False)
    assert str(beat(home)["error"]).startswith("challenger: version 2 cannot be loaded")


def test_what_failed_is_tried_again_after_a_while(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    following = follower(home)
    home.serve("9")
    following.step()
    assert following.why_not_ready() is not None
    home.store.versions.add(ModelVersion(MODEL, "9", home.store.versions.get(MODEL, "1").bundle, time.time()))
    following.step()
    assert following.why_not_ready() is not None
    monkeypatch.setattr(following, "_retry_at", 0.0)
    following.step()
    assert following.why_not_ready() is None
    assert beat(home)["error"] is None


def test_without_a_database_it_goes_on_with_what_it_has(home: Home) -> None:
    following = follower(home)
    home.serve("1")
    following.step()
    with home.store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE serving RENAME TO hidden"))
    following.step()
    assert following.current.state.champion == "1"
    assert following.error is not None
    assert following.error.startswith("the desired state cannot be read")
    assert following.why_not_ready() is None
    with home.store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE hidden RENAME TO serving"))
    following.step()
    assert following.error is None


def test_any_registered_version_can_be_had_and_few_extra_ones_are_kept(home: Home) -> None:
    following = follower(home)
    home.serve("1")
    following.step()
    second = following.reader("2")
    assert following.reader("2") is second
    assert following.reader("1") is following.current.readers["1"]
    following.reader("3")
    following.reader("4")
    assert following.reader("2") is not second
    with pytest.raises(NotFound):
        following.reader("77")
    damage(home, "3")
    (home.settings.home / "bundles").rename(home.settings.home / "elsewhere")
    with pytest.raises(Damaged):
        follower(home).reader("3")


def test_the_thread_follows_by_itself_within_a_few_polls(home: Home) -> None:
    following = follower(home)
    following.start()
    home.serve("1")
    deadline = time.monotonic() + 60
    while following.why_not_ready() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert following.current.state.champion == "1"
    assert following.alive
    following.close()
    assert not following.alive


def test_a_replica_that_loads_for_long_says_that_it_lives(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.follow.BEAT_S", 0.02)
    following, loaded = follower(home), threading.Event()
    monkeypatch.setattr(following._loader, "load", lambda _: loaded.wait(60) and None)
    home.serve("1")
    following.start()
    heard: set[object] = set()
    deadline = time.monotonic() + 60
    while len(heard) < 4 and time.monotonic() < deadline:
        heard |= {row["at"] for row in home.store.replicas.list(MODEL)}
        time.sleep(0.01)
    loaded.set()
    following.close()
    assert len(heard) == 4
