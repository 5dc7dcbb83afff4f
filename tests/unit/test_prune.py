"""Fetched bundles make room when nobody uses them, and never while somebody does."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import store_parts
import tiny_bundle

from redpencil import bundle, prune
from redpencil.blobs import Blobs
from redpencil.bundle import Adapters, Graph, Manifest
from redpencil.settings import Settings
from redpencil.types import ServingState


class Home:
    """A store, blobs, and bundles that were fetched and are old."""

    def __init__(self, folder: Path) -> None:
        self.settings, self.folder = Settings(home=folder), folder
        self.store, self.blobs = store_parts.new_store(folder), Blobs.open(self.settings.blobs)
        self.cache = folder / "bundles"

    def version(self, number: str) -> Path:
        tiny_bundle.build(self.folder / number, lineage={"version": number})
        name = bundle.put(self.folder / number, self.blobs)
        self.store.versions.add(store_parts.version(number, bundle=name))
        return self.aged(self.fetch(name))

    def fetch(self, name: str) -> Path:
        return bundle.fetch(name, self.blobs, self.cache)

    def aged(self, folder: Path) -> Path:
        os.utime(folder, (0, time.time() - prune.KEPT_S - 60))
        return folder

    def prune(self, blobs: Any = None) -> None:
        prune.prune(self.store, blobs or self.blobs, self.settings)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.store.close()


def test_what_nobody_has_used_for_a_week_goes_and_can_be_had_again(home: Home) -> None:
    old, used = home.version("1"), home.version("2")
    home.fetch(used.name)
    home.prune()
    assert list(home.cache.iterdir()) == [used]
    assert Manifest.load(home.fetch(old.name))


def test_what_is_served_stays_however_old(home: Home) -> None:
    served = {home.version(number) for number in "1234"}
    home.version("5")
    state = ServingState("ocr", 1, champion="1", challenger="2", previous="3", weight=0.5)
    home.store.serving.change(state, store_parts.entry())
    home.store.replicas.beat("slow", "ocr", 1, 0, "4", None, None, None)
    home.prune()
    assert set(home.cache.iterdir()) == served


def test_what_cannot_be_fetched_again_stays(home: Home) -> None:
    broken, unknown = home.version("1"), home.cache / ("0" * 64)
    graph = next(iter(Manifest.load(broken).files()))
    cast(Path, home.blobs.path(graph.sha256)).unlink()
    unknown.mkdir()
    home.aged(unknown)
    home.prune()
    assert set(home.cache.iterdir()) == {broken, unknown}


def test_adapters_stay_as_their_server_reads_them_again(home: Home) -> None:
    whole = home.version("1")
    config = whole / "adapter_config.json"
    config.write_text("{}")
    adapters = Adapters("base", 8, "", "What is it?", 10, Graph.of(config))
    shape = replace(tiny_bundle.preprocessing(), width=100)
    own = replace(Manifest.load(whole), decoder="vlm", adapters=adapters, preprocessing=shape)
    own.save(whole)
    kept = home.aged(home.fetch(bundle.put(whole, home.blobs)))
    home.aged(whole)
    home.prune()
    assert list(home.cache.iterdir()) == [kept]


def test_what_is_asked_for_while_it_is_looked_at_stays(home: Home) -> None:
    old = home.version("1")

    class Slow:
        """Blobs that take so long that another process fetches the bundle meanwhile."""

        get = home.blobs.get

        def has(self, _: str) -> bool:
            assert home.fetch(old.name) == old
            return True

    home.prune(Slow())
    assert list(home.cache.iterdir()) == [old]


def test_what_a_killed_fetch_left_behind_goes(home: Home) -> None:
    for name in (".fetch-old", ".fetch-new"):
        (home.cache / name / "bundle").mkdir(parents=True)
    home.aged(home.cache / ".fetch-old")
    home.prune()
    assert [f.name for f in home.cache.iterdir()] == [".fetch-new"]
