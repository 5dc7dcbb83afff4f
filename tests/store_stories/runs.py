"""Runs, and requests that are answered once."""

from __future__ import annotations

import time

import pytest
from store_parts import (
    run,
)

from redpencil.errors import BadInput, Conflict, NotFound
from redpencil.store import Replay, Store
from redpencil.store import idempotency as idempotency_module
from redpencil.types import (
    RunState,
)
from store_stories.told import at_once

# --- runs


def test_a_run_is_followed_from_queue_to_end(store: Store) -> None:
    asked = run(params={"steps": 3})
    store.runs.add(asked)
    assert store.runs.get(asked.id) == asked
    before = time.time()
    taken = store.runs.claim_next("ocr")
    assert taken is not None
    assert (taken.state, taken.attempts) == (RunState.RUNNING, 1)
    assert before <= (taken.started_at or 0) <= time.time()
    store.runs.update(asked.id, phase="train", progress={"step": 2}, pid=77)
    ended = store.runs.update(asked.id, state=RunState.SUCCEEDED, version="2", finished_at=9.0)
    assert (ended.phase, ended.progress, ended.version, ended.params) == (
        "train",
        {"step": 2},
        "2",
        {"steps": 3},
    )
    assert store.runs.get(asked.id) == ended


def test_a_field_that_a_run_does_not_have_is_refused(store: Store) -> None:
    asked = run()
    store.runs.add(asked)
    with pytest.raises(BadInput, match="colour"):
        store.runs.update(asked.id, colour="red")
    with pytest.raises(NotFound):
        store.runs.update("run_x", phase="train")


def test_the_oldest_queued_run_is_claimed_one_at_a_time_per_model(store: Store) -> None:
    first, second, other = run(created_at=1.0), run(created_at=2.0), run("captions", created_at=3.0)
    for asked in (second, first, other):
        store.runs.add(asked)
    claimed = store.runs.claim_next("ocr")
    assert claimed is not None
    assert claimed.id == first.id
    assert store.runs.claim_next("ocr") is None
    assert store.runs.claim_next("captions") is not None
    store.runs.update(first.id, state=RunState.FAILED)
    assert getattr(store.runs.claim_next("ocr"), "id", None) == second.id


def test_an_interrupted_run_keeps_its_first_start_and_counts_its_attempts(store: Store) -> None:
    asked = run()
    store.runs.add(asked)
    first = store.runs.claim_next("ocr")
    store.runs.update(asked.id, state=RunState.QUEUED)
    again = store.runs.claim_next("ocr")
    assert first is not None
    assert again is not None
    assert (again.attempts, again.started_at, again.pid) == (2, first.started_at, None)


def test_of_eight_claimers_one_gets_the_run(store: Store) -> None:
    for _ in range(3):
        store.runs.add(run())
    claims = at_once(lambda _: store.runs.claim_next("ocr"), 8)
    assert len([c for c in claims if c is not None]) == 1
    assert len(store.runs.list(states=[RunState.RUNNING])) == 1


def test_two_running_runs_of_one_model_are_a_conflict(store: Store) -> None:
    first, second = run(), run()
    store.runs.add(first)
    store.runs.add(second)
    store.runs.update(first.id, state=RunState.RUNNING)
    with pytest.raises(Conflict, match="another run"):
        store.runs.update(second.id, state=RunState.RUNNING)


def test_a_queued_run_is_cancelled_at_once_and_a_running_one_is_asked(store: Store) -> None:
    waiting, working = run(created_at=2.0), run(created_at=1.0)
    store.runs.add(waiting)
    store.runs.add(working)
    store.runs.claim_next("ocr")
    assert store.runs.cancel(waiting.id).state is RunState.CANCELLED
    asked = store.runs.cancel(working.id)
    assert (asked.state, asked.progress["cancel"]) == (RunState.RUNNING, True)
    store.runs.update(working.id, progress={"step": 5})
    assert store.runs.cancel_requested(working.id)
    assert store.runs.get(working.id).progress == {"step": 5, "cancel": True}
    store.runs.update(working.id, state=RunState.CANCELLED)
    with pytest.raises(Conflict, match="over"):
        store.runs.cancel(working.id)


def test_runs_are_listed_newest_first_in_pages(store: Store) -> None:
    asked = [run() for _ in range(5)]
    for one in asked:
        store.runs.add(one)
    first = store.runs.list("ocr", limit=3)
    rest = store.runs.list("ocr", limit=3, after=first[-1].id)
    assert first + rest == sorted(asked, key=lambda r: r.id, reverse=True)
    assert store.runs.list(states=[RunState.FAILED]) == []


def test_when_a_time_came_for_nothing_is_known_of_each_model(store: Store) -> None:
    assert store.runs.skipped("ocr") is None
    for model, at in (("ocr", 1.0), ("caption", 2.0), ("ocr", 3.0)):
        store.runs.skip(model, at)
    assert (store.runs.skipped("ocr"), store.runs.skipped("caption")) == (3.0, 2.0)


# --- idempotency


def test_the_same_request_gets_the_same_answer(store: Store) -> None:
    keys = store.idempotency
    assert keys.begin("k", "/v1/corrections", "hash") is None
    keys.finish("k", "/v1/corrections", 201, '{"id":"corr_1"}')
    assert keys.begin("k", "/v1/corrections", "hash") == Replay(201, '{"id":"corr_1"}')
    assert keys.begin("k", "/v1/other", "hash") is None


def test_the_same_key_with_another_body_is_refused(store: Store) -> None:
    store.idempotency.begin("k", "/", "hash")
    with pytest.raises(BadInput, match="another body"):
        store.idempotency.begin("k", "/", "other")


def test_a_request_in_flight_is_not_run_twice(store: Store) -> None:
    assert store.idempotency.begin("k", "/", "hash") is None
    with pytest.raises(Conflict, match="in flight"):
        store.idempotency.begin("k", "/", "hash")
    store.idempotency.abandon("k", "/")
    assert store.idempotency.begin("k", "/", "hash") is None


def test_of_eight_equal_requests_one_goes_on(store: Store) -> None:
    results = at_once(lambda _: store.idempotency.begin("k", "/", "hash"), 8)
    assert len([r for r in results if r is None]) == 1


def test_a_request_that_died_in_flight_is_taken_over_by_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = idempotency_module.Idempotency(store.idempotency._db)  # as another process has it
    other.begin("died", "/", "hash")
    monkeypatch.setattr(idempotency_module, "ABANDONED_S", 0.2)
    time.sleep(0.3)
    with pytest.raises(Conflict, match="in flight"):
        other.begin("died", "/", "hash")  # it is still at work there, and knows it
    results = at_once(lambda _: store.idempotency.begin("died", "/", "hash"), 4)
    assert len([r for r in results if r is None]) == 1


def test_an_answer_is_kept_with_what_was_written_for_it_or_not_at_all(store: Store) -> None:
    store.idempotency.begin("undone", "/", "hash")

    def queue(error: Exception | None) -> None:
        with store.transaction():
            store.runs.add(run())
            store.idempotency.finish("undone", "/", 202, "queued")
            if error:
                raise error

    with pytest.raises(BadInput):
        queue(BadInput("on second thoughts"))
    assert store.runs.list() == []
    queue(None)
    assert len(store.runs.list()) == 1
    assert store.idempotency.begin("undone", "/", "hash") == Replay(202, "queued")


def test_what_was_taken_over_is_done_by_the_one_that_took_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = idempotency_module.Idempotency(store.idempotency._db)  # of a process that was only asleep
    slow.begin("slept", "/", "hash")
    monkeypatch.setattr(idempotency_module, "ABANDONED_S", -1)
    assert store.idempotency.begin("slept", "/", "hash") is None

    def wake() -> None:
        with store.transaction():
            store.runs.add(run())
            slow.finish("slept", "/", 202, "by the sleeper")

    with pytest.raises(Conflict, match="taken over"):
        wake()
    assert store.runs.list() == []
    slow.abandon("slept", "/")
    store.idempotency.finish("slept", "/", 202, "by the other")
    assert store.idempotency.begin("slept", "/", "hash") == Replay(202, "by the other")


def test_old_keys_can_be_forgotten(store: Store) -> None:
    store.idempotency.begin("k", "/", "hash")
    assert store.idempotency.forget(60) == 0
    assert store.idempotency.forget(-1) == 1
