"""Unit tests keep their files in memory: waiting for a disk's sync took a third of their time.

They open hundreds of databases, and compiling the same statements for each took a tenth of the rest.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import compiled_once
import pytest
from service_house import World

compiled_once.use()
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
    world = World(tmp_path)
    yield world
    world.store.close()
