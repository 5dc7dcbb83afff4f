"""Marked by the folder they lie in: unit, integration or e2e. No test depends on the speed of the machine."""

from pathlib import Path

import hypothesis
import pytest

pytest.register_assert_rewrite("store_stories")  # before anybody imports them

# How busy a machine is proves nothing, so there is no deadline.
hypothesis.settings.register_profile("redpencil", deadline=None, max_examples=50)
hypothesis.settings.load_profile("redpencil")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        item.add_marker(folder)
