"""One whole stack for all end-to-end tests, started as a user starts it; and services that stand alone."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from service_house import World

from benchmarks.stack import Stack, running
from redpencil import ports
from services.app import assemble


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.store.close()


@pytest.fixture
def address(world: World) -> Iterator[str]:
    (port,) = ports.free(1)
    server = uvicorn.Server(
        uvicorn.Config(assemble(world.house, watching=False), port=port, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)
