"""One whole stack for all end-to-end tests, started as a user starts it."""

from collections.abc import Iterator

import pytest

from benchmarks.stack import Stack, running


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("home")) as started:
        yield started
