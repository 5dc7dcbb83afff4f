"""Following the registry's alias through accidents: MLflow down, a kill half-way, things deleted."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from service_house import MODEL, World, actions, alias, champion, last, point

from redpencil.types import Experiment, Outcome
from services import promote


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.house.judge.stop()
    world.store.close()


def test_while_mlflow_is_down_nothing_changes_and_it_is_said(world: World) -> None:
    world.serve("1")
    world.version("2")
    world.registry.down = True
    point(world, "2")
    assert world.tick().state == "stalled"
    assert champion(world) == "1"
    world.registry.down = False
    assert world.tick().state == "agreed"
    assert champion(world) == "2"


def test_a_rollback_while_mlflow_is_down_is_not_undone(world: World) -> None:
    world.serve("1", "2")
    world.registry.down = True
    promote.rollback(world.store, MODEL, "bo", "reads worse")
    world.tick()
    assert champion(world) == "1"
    world.registry.down = False
    world.tick()
    world.tick()
    assert (champion(world), alias(world)) == ("1", "1")


def test_killed_between_database_and_alias_the_next_start_finishes_it(world: World) -> None:
    world.serve("1")
    world.version("2")
    promote.promote(world.store, MODEL, "2", "ada", "better")  # and then the power went
    again = World.__new__(World)
    again.__dict__ |= world.__dict__
    again.tick()
    assert (champion(world), alias(world)) == ("2", "2")
    assert world.registry.aliases[MODEL, "previous"] == "1"


def test_killed_between_refusal_and_alias_it_is_refused_again(world: World) -> None:
    world.serve("1")
    world.version("2", Outcome.FAILED, "worse")
    promote.refuse(world.store, MODEL, "2", "mlflow", "the gate says failed: worse")
    point(world, "2")
    world.tick()
    assert alias(world) == "1"
    assert actions(world).count("refuse") == 1


def test_a_deleted_alias_comes_back(world: World) -> None:
    world.serve("1")
    del world.registry.aliases[MODEL, "champion"]
    world.tick()
    assert (champion(world), alias(world)) == ("1", "1")
    assert "restore" in actions(world)


def test_versions_deleted_in_mlflow_stop_nothing(world: World) -> None:
    world.serve("1", "2", "3")
    world.version("4")
    del world.registry.versions[MODEL, "2"]  # the previous one
    world.registry.aliases.pop((MODEL, "previous"))
    promote.share(world.store, MODEL, lambda s: replace(s, challenger="4"), "experiment", "ada", "")
    assert world.tick().state == "agreed"
    del world.registry.versions[MODEL, "3"]  # the champion
    world.registry.aliases.pop((MODEL, "champion"))
    gone = world.tick()
    assert (gone.state, champion(world)) == ("deleted", "3")
    assert "point the alias champion at another version" in gone.why
    point(world, "4")
    assert world.tick().state == "agreed"
    assert champion(world) == "4"
    assert "deleted in MLflow: 3" in last(world, "aliases").why


def test_an_experiment_cut_off_while_starting_is_ended(world: World) -> None:
    world.serve("1")
    world.version("2")
    long_ago = time.time() - 3600
    world.store.experiments.start(Experiment("exp_1", MODEL, "1", "2", long_ago, "ada"))
    world.tick()
    assert world.store.experiments.current(MODEL) is None
