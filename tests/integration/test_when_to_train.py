"""Runs that nobody asked for: after so many new corrections, or by the clock; each model by its own."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import store_parts
from service_house import MODEL, World
from sqlalchemy import event
from store_stories.told import HOLDOUT_GROUP, TRAIN_GROUP

from redpencil import checkpoints, snapshot
from redpencil.errors import BadInput
from redpencil.settings import Settings
from redpencil.types import Correction, Doubt, Run, RunState, Task
from services.schedule import Schedule, queue


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.store.close()


def correct(world: World, count: int = 1) -> None:
    client = world.client()
    for n in range(count):
        made = world.prediction(f"line {chr(97 + n)}")
        client.post("/v1/corrections", json={"prediction_id": made.id, "text": "x"})


def test_so_many_new_corrections_start_a_run(world: World) -> None:
    now = [time.time()]
    schedule = Schedule(world.store, Settings(home=world.settings.home, retrain_after=2), lambda: now[0])
    correct(world)
    assert schedule.due(MODEL) is None
    correct(world)
    run = schedule.due(MODEL)
    assert run is not None
    assert (run.trigger, run.recipe) == ("corrections", "ppocr")
    assert schedule.due(MODEL) is None  # one is waiting
    world.store.runs.claim_next(MODEL)
    world.store.runs.update(run.id, state=RunState.SUCCEEDED)
    assert schedule.due(MODEL) is None  # nothing new since
    correct(world, 2)
    assert schedule.due(MODEL) is not None


def fails(world: World, run: Run, now: float) -> None:
    world.store.runs.claim_next(MODEL)
    world.store.runs.update(run.id, state=RunState.FAILED, finished_at=now)


def is_cancelled(world: World, run: Run, now: float) -> None:
    world.store.runs.cancel(run.id)  # while it waits


def is_cancelled_at_work(world: World, run: Run, now: float) -> None:
    world.store.runs.claim_next(MODEL)
    taken = snapshot.take(world.store, Task.OCR).id
    ended = {"state": RunState.CANCELLED, "finished_at": now, "started_at": now, "snapshot": taken}
    world.store.runs.update(run.id, **ended)


@pytest.mark.parametrize("ends", [fails, is_cancelled, is_cancelled_at_work])
def test_what_a_run_in_vain_has_seen_is_still_new(world: World, ends: Callable[..., None]) -> None:
    now = [time.time()]
    schedule = Schedule(world.store, Settings(home=world.settings.home, retrain_after=2), lambda: now[0])
    correct(world, 2)
    run = schedule.due(MODEL)
    assert run is not None
    ends(world, run, now[0])
    assert schedule.new_corrections(MODEL) == 2
    assert schedule.due(MODEL) is None, "not at once again"
    now[0] += 3601
    assert schedule.due(MODEL) is not None


def test_what_was_said_before_is_not_new_though_it_is_stored_later(world: World) -> None:
    """As where two homes become one: the later word on a place is here already."""
    schedule = Schedule(world.store, Settings(home=world.settings.home, retrain_after=1))
    image = world.image("a")
    world.store.corrections.add_many([store_parts.correction(image, created_at=2000.0)])
    taken = snapshot.take(world.store, Task.OCR)
    run = schedule.due(MODEL)
    assert run is not None
    world.store.runs.claim_next(MODEL)
    world.store.runs.update(run.id, state=RunState.SUCCEEDED, snapshot=taken.id)
    world.store.corrections.add_many([store_parts.correction(image, created_at=1000.0)])
    assert schedule.new_corrections(MODEL) == 0
    world.store.corrections.add_many([store_parts.correction(image, created_at=3000.0)])
    assert schedule.new_corrections(MODEL) == 1


def test_imported_corrections_are_new_whenever_they_were_made(world: World) -> None:
    schedule = Schedule(world.store, Settings(home=world.settings.home, retrain_after=2))
    correct(world, 2)
    run = schedule.due(MODEL)
    assert run is not None
    world.store.runs.claim_next(MODEL)
    taken = snapshot.take(world.store, Task.OCR)
    world.store.runs.update(run.id, state=RunState.SUCCEEDED, snapshot=taken.id)
    assert schedule.new_corrections(MODEL) == 0
    old = [store_parts.correction(world.image(c), created_at=1000.0) for c in "ab"]
    world.store.corrections.add_many(old)
    assert schedule.new_corrections(MODEL) == 2
    assert schedule.due(MODEL) is not None


def learned(world: World) -> Run:
    """A run that is over, and learned from all that holds."""
    run = queue(world.store, MODEL, "ppocr", "api")
    world.store.runs.claim_next(MODEL)
    taken = snapshot.take(world.store, Task.OCR).id
    return world.store.runs.update(run.id, state=RunState.SUCCEEDED, snapshot=taken)


def said(world: World, name: str, group: str = TRAIN_GROUP, **given: Any) -> Correction:
    made = store_parts.correction(world.image(name, group), **given)
    world.store.corrections.add_many([made])
    return made


def test_what_a_run_left_out_is_new_when_a_person_confirmed_it(world: World) -> None:
    settings = Settings(home=world.settings.home, retrain_cron="* * * * *", retrain_after=2)
    schedule = Schedule(world.store, settings)
    doubted = [said(world, name) for name in "abcd"] + [said(world, "held", HOLDOUT_GROUP)]
    run = learned(world)
    world.store.doubts.add_many([Doubt(run.id, c.id, 1.0, 0.9, c is not doubted[3]) for c in doubted])
    assert (schedule.new_corrections(MODEL), schedule.stated(MODEL)) == (0, 0)
    for c in (doubted[0], *doubted[2:]):
        world.store.doubts.confirm(c.id, "ann", "it is so")
    assert (schedule.new_corrections(MODEL), schedule.stated(MODEL)) == (2, 2)
    world.store.corrections.revoke(doubted[2].id, "ann", "a slip")
    assert (schedule.new_corrections(MODEL), schedule.stated(MODEL)) == (1, 1)
    said(world, "a")
    assert (schedule.new_corrections(MODEL), schedule.stated(MODEL)) == (1, 2), "corrected anew"
    said(world, "e")
    assert schedule.due(MODEL) is not None
    world.store.runs.claim_next(MODEL)
    assert schedule.new_corrections(MODEL) == 0


def test_the_status_counts_new_corrections_and_loads_none(world: World) -> None:
    correct(world, 2)
    learned(world)
    for name in "cdd":
        said(world, name)
    asked: list[str] = []
    event.listen(world.store.engine, "before_cursor_execute", lambda *what: asked.append(what[2]))
    now = world.client().get("/v1/status", params={"model": MODEL}).json()["models"][MODEL]
    assert (now["corrections"], now["new_corrections"]) == (5, 3)
    assert not [statement for statement in asked if "corrections.polygon" in statement]


def test_too_few_are_looked_at_once_until_more_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = Schedule(world.store, Settings(home=world.settings.home, retrain_after=2))
    learned(world)
    for name in "aa":
        said(world, name)
    looked: list[int] = []
    count = world.store.unlearned.count
    monkeypatch.setattr(
        world.store.unlearned, "count", lambda *asked: looked.append(count(*asked)) or looked[-1]
    )
    assert [schedule.due(MODEL) for _ in range(5)] == [None] * 5
    assert looked == [1]
    said(world, "b")
    assert schedule.due(MODEL) is not None


def test_a_cron_expression_starts_runs(world: World) -> None:
    now = [time.time()]
    settings = Settings(home=world.settings.home, retrain_cron="0 * * * *")
    schedule = Schedule(world.store, settings, lambda: now[0])
    correct(world)
    assert schedule.due(MODEL) is None
    assert schedule.next_at(MODEL) == pytest.approx(now[0], abs=3601)
    now[0] += 3601
    run = schedule.due(MODEL)
    assert run is not None
    assert run.trigger == "cron"
    world.store.runs.update(run.id, state=RunState.SUCCEEDED)
    due_again = schedule.next_at(MODEL)
    for _ in range(60):
        world.store.runs.update(queue(world.store, MODEL, "ppocr", "api").id, state=RunState.SUCCEEDED)
    assert schedule.next_at(MODEL) == due_again, "many others since change nothing"


def test_cron_skips_where_there_is_nothing_new(world: World) -> None:
    now = [time.time()]
    settings = Settings(home=world.settings.home, retrain_cron="* * * * *")
    schedule = Schedule(world.store, settings, lambda: now[0])
    now[0] += 61
    assert schedule.due(MODEL) is None
    assert "no new corrections" in schedule.skipped(MODEL)
    assert (schedule.next_at(MODEL) or 0) > now[0]


NIGHT = datetime(2024, 6, 3, 3).timestamp()
HOUR, DAY = 3600.0, 24 * 3600.0


def nightly(world: World, at: float) -> Schedule:
    """As the services start at a time."""
    return Schedule(world.store, Settings(home=world.settings.home, retrain_cron="0 3 * * *"), lambda: at)


def test_a_time_that_passed_for_nothing_is_not_caught_up_after_a_restart(world: World) -> None:
    said(world, "a")
    taken = snapshot.take(world.store, Task.OCR).id
    done = {"trigger": "cron", "state": RunState.SUCCEEDED, "snapshot": taken}
    world.store.runs.add(store_parts.run(MODEL, created_at=NIGHT, **done))
    assert nightly(world, NIGHT + DAY).due(MODEL) is None
    said(world, "b", created_at=NIGHT - HOUR)  # imported in the afternoon, and said long before
    afternoon = nightly(world, NIGHT + DAY + 11 * HOUR)
    assert afternoon.due(MODEL) is None
    assert afternoon.next_at(MODEL) == NIGHT + 2 * DAY
    assert "no new corrections" in afternoon.skipped(MODEL)
    assert nightly(world, NIGHT + 2 * DAY).due(MODEL) is not None
    assert afternoon.skipped(MODEL) == ""


def test_a_time_at_which_nobody_was_there_is_caught_up(world: World) -> None:
    world.store.runs.skip(MODEL, NIGHT)
    said(world, "a")
    assert nightly(world, NIGHT + DAY + 5 * HOUR).due(MODEL) is not None


def test_without_a_schedule_nothing_starts(world: World) -> None:
    correct(world, 3)
    assert Schedule(world.store, Settings(home=world.settings.home)).due(MODEL) is None


def test_a_wrong_cron_expression_is_said_at_the_start(world: World) -> None:
    settings: Any = Settings(home=world.settings.home, retrain_cron="every tuesday")
    with pytest.raises(BadInput, match="every tuesday"):
        Schedule(world.store, settings)


def test_a_version_of_a_checkpoint_is_no_sign_of_learning(world: World) -> None:
    correct(world)
    earlier = snapshot.take(world.store, Task.OCR).id
    correct(world)
    learned = queue(world.store, MODEL, "ppocr", "api")
    world.store.runs.claim_next(MODEL)
    now = {"state": RunState.SUCCEEDED, "snapshot": snapshot.take(world.store, Task.OCR).id}
    world.store.runs.update(learned.id, **now)
    made = queue(world.store, MODEL, "ppocr", checkpoints.ASKED, {}, earlier)
    world.store.runs.claim_next(MODEL)
    world.store.runs.update(made.id, state=RunState.SUCCEEDED)
    assert Schedule(world.store, Settings(home=world.settings.home)).new_corrections(MODEL) == 0
