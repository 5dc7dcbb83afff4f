"""Ids: in the order in which they were made, also within a millisecond and from several threads."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from redpencil.ids import new_id


def test_ids_sort_as_they_were_made_within_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_id("run")
    monkeypatch.setattr(
        time, "time_ns", lambda: 1_700_000_000_000_000_000
    )  # a clock that stands, and was set back
    made = [new_id("run") for _ in range(5000)]
    assert [before, *made] == sorted({before, *made})


def test_threads_share_no_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_id("pred"), range(4000)))
    assert len(set(made)) == 4000


def test_an_id_says_what_it_names_and_when() -> None:
    before = time.time_ns() // 1_000_000
    name, when, rest = new_id("corr").split("_")
    assert name == "corr"
    assert before <= int(when, 16) <= before + 60_000
    assert re.fullmatch("[0-9a-f]{16}", rest)
