"""Unit tests keep their files in memory: waiting for a disk's sync took a third of their time.

They open hundreds of databases, and compiling the same statements for each took a tenth of the rest, as
did putting the command line together for every command.
"""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import compiled_once
import httpx
import pytest
import typer.testing
from service_house import World
from typer.testing import CliRunner

from services import cli
from services.client import Client

compiled_once.use()
typer.testing._get_command = cache(typer.testing._get_command)
MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder of the test's own, gone after it."""
    folder = MEMORY if MEMORY.is_dir() else None
    with TemporaryDirectory(prefix="redpencil-", dir=folder, ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Services in a house of their own, unless a file furnishes another."""
    world = World(tmp_path, serving_port=1, mlflow_port=2)  # nothing listens there
    yield world
    world.house.judge.stop()
    world.store.close()


@pytest.fixture
def redpencil(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A command whose calls the house answers itself."""

    class InHouse:
        def request(self, method: str, url: str, **arguments: Any) -> httpx.Response:
            return world.client().request(method, httpx.URL(url).path, **arguments)

    made = Client.__init__

    def init(self: Client, settings: Any) -> None:
        made(self, settings)
        self._http = InHouse()  # type: ignore[assignment]

    monkeypatch.setattr(Client, "__init__", init)
    return lambda *words: CliRunner().invoke(cli.app, list(words))
