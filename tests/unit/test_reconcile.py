"""Following the registry's alias: what is let in, what is refused, and what a person may override."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from service_house import MODEL, World, actions, alias, champion, last, point

from redpencil.types import Outcome
from services import promote


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.house.judge.stop()
    world.store.close()


def test_the_first_version_is_adopted_and_gets_the_alias(world: World) -> None:
    world.version("1")
    assert world.tick().state == "agreed"
    assert (champion(world), alias(world)) == ("1", "1")
    assert actions(world) == ["adopt", "aliases"]


def test_nothing_is_adopted_where_nothing_is(world: World) -> None:
    assert world.tick().state == "empty"


def test_a_passed_version_is_followed(world: World) -> None:
    world.serve("1")
    world.version("2")
    point(world, "2")
    assert world.tick().state == "agreed"
    assert champion(world) == "2"
    assert world.registry.aliases[MODEL, "previous"] == "1"
    assert last(world, "promote").who == "mlflow"
    revision = world.store.serving.get(MODEL).revision
    world.tick()
    assert world.store.serving.get(MODEL).revision == revision


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.INCONCLUSIVE])
def test_a_version_that_did_not_pass_is_refused_and_the_alias_goes_back(
    world: World, outcome: Outcome
) -> None:
    world.serve("1")
    world.version("2", outcome, "golden set worse by 20 %")
    point(world, "2")
    standing = world.tick()
    assert (standing.state, standing.version) == ("refused", "2")
    assert "golden set worse" in standing.why
    assert (champion(world), alias(world)) == ("1", "1")
    assert "golden set worse" in world.registry.versions[MODEL, "2"]["gate.refused"]
    assert "golden set worse" in last(world, "refuse").why
    assert world.tick().state == "refused"  # stays to be read
    assert actions(world).count("refuse") == 1


def test_a_failing_first_version_is_refused_once(world: World) -> None:
    world.version("1", Outcome.FAILED, "reads nothing")
    assert world.tick().state == "refused"
    calls = list(world.registry.calls)
    assert world.tick().state == "refused"
    assert world.registry.calls == calls
    assert champion(world) is None


@pytest.mark.parametrize("first", [Outcome.INCONCLUSIVE, Outcome.FAILED, None])
def test_the_first_version_that_passes_is_served_whatever_those_before_it_did(
    world: World, first: Outcome | None
) -> None:
    world.version("1", first)
    assert world.tick().state == ("refused" if first else "waiting")
    world.version("10")
    world.version("9")
    assert world.tick().state == "agreed"
    assert (champion(world), alias(world), last(world, "adopt").to_version) == ("9", "9", "9")


def test_after_one_that_did_not_pass_the_next_is_judged_before_it_is_served(world: World) -> None:
    world.version("1", Outcome.INCONCLUSIVE, "too few lines")
    world.tick()
    world.version("2", None)
    standing = world.tick()
    assert (standing.state, standing.version, champion(world)) == ("waiting", "2", None)
    world.judge("2", Outcome.FAILED, "reads nothing")
    for _ in range(3):
        assert "reads nothing" in world.tick().why
    assert champion(world) is None
    assert actions(world).count("refuse") == 2


def test_a_person_may_override_by_a_tag(world: World) -> None:
    world.serve("1")
    world.version("2", Outcome.FAILED, "worse")
    world.registry.set_tags(MODEL, "2", {"gate.override": "Ada: the golden set is not our trade"})
    point(world, "2")
    world.tick()
    entry = last(world, "override")
    assert champion(world) == "2"
    assert (entry.who, entry.why) == ("Ada", "the golden set is not our trade")
    assert entry.detail["verdict"] == "failed"


def test_an_override_holds_once(world: World) -> None:
    world.serve("1")
    world.version("2", Outcome.FAILED, "worse")
    world.registry.set_tags(MODEL, "2", {"gate.override": "Ada: fair tomorrow only"})
    point(world, "2")
    world.tick()
    promote.rollback(world.store, MODEL, "Bo", "it reads worse")
    world.tick()
    point(world, "2")
    refused = world.tick()
    assert (refused.state, champion(world)) == ("refused", "1")
    assert "'Ada: fair tomorrow only' was used before and holds once" in refused.why
    world.registry.set_tags(MODEL, "2", {"gate.override": "Bo: the fair again"})
    point(world, "2")
    world.tick()
    assert (champion(world), last(world, "override").who) == ("2", "Bo")


@pytest.mark.parametrize("tag", ["yes", "Ada:", ": because", "Ada"])
def test_an_override_needs_a_name_and_a_reason(world: World, tag: str) -> None:
    world.serve("1")
    world.version("2", Outcome.FAILED, "worse")
    world.registry.set_tags(MODEL, "2", {"gate.override": tag})
    point(world, "2")
    assert "NAME: REASON" in world.tick().why
    assert champion(world) == "1"


def test_something_else_registered_by_hand_is_refused(world: World, tmp_path: Path) -> None:
    world.serve("1")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "model.pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    world.registry.add(MODEL, "7", tmp_path / "odd")
    point(world, "7")
    standing = world.tick()
    assert standing.state == "refused"
    assert "no bundle" in standing.why
    assert (champion(world), alias(world)) == ("1", "1")
    assert not Path("pwned").exists()
