"""Transitions of what is served: one row, one ledger entry, aliases that follow."""

from typing import cast

import pytest
from service_house import MODEL, World, actions

from redpencil.errors import Conflict, NotFound, NotReady, Refused
from redpencil.registry import Registry
from redpencil.types import Outcome
from services import promote


def settle(world: World) -> None:
    promote.settle(world.store, cast(Registry, world.registry), MODEL)


def crown(world: World, *versions: str) -> None:
    """Versions that passed become champion, one after the other."""
    for version in versions:
        world.version(version)
        promote.promote(world.store, MODEL, version, "ada", "")


def test_a_promotion_keeps_the_old_champion_as_previous(world: World) -> None:
    crown(world, "1")
    world.version("2")
    state = promote.promote(world.store, MODEL, "2", "ada", "better")
    assert (state.champion, state.previous, state.revision) == ("2", "1", 2)
    entry = world.store.ledger.list(MODEL)[0]
    assert (entry.who, entry.from_version, entry.to_version, entry.why) == ("ada", "1", "2", "better")
    assert entry.detail["verdict"] == "passed"


def test_promoting_the_champion_changes_nothing(world: World) -> None:
    world.version("1")
    promote.promote(world.store, MODEL, "1", "ada", "first")
    assert promote.promote(world.store, MODEL, "1", "ada", "again").revision == 1
    assert len(world.store.ledger.list(MODEL)) == 1


def test_of_two_that_passed_beside_the_same_champion_only_one_is_promoted(world: World) -> None:
    crown(world, "1")
    world.version("2")
    world.version("3")
    assert promote.admit(world.store, MODEL, "3") is not None
    promote.promote(world.store, MODEL, "2", "bo", "a moment before")
    with pytest.raises(Conflict, match="3 was judged beside 1, and 2 is served now"):
        promote.promote(world.store, MODEL, "3", "ada", "")
    assert promote.admit(world.store, MODEL, "3") is None, "it is to be judged"
    world.judge("3", Outcome.PASSED)
    assert promote.promote(world.store, MODEL, "3", "ada", "").champion == "3"


def test_only_what_earned_its_place_comes_back_without_a_new_verdict(world: World) -> None:
    crown(world, "1")
    world.version("2", Outcome.FAILED)
    promote.promote(world.store, MODEL, "2", "ada", "we need it", "override")
    crown(world, "3")
    assert promote.admit(world.store, MODEL, "1") is not None
    assert promote.admit(world.store, MODEL, "2") is None
    world.judge("1", Outcome.FAILED)  # anew, beside 3
    crown(world, "4")
    assert promote.admit(world.store, MODEL, "1") is None, "what 3 made fail says nothing beside 4"
    assert promote.unjudged(world.store, MODEL, "1")


def test_a_rollback_swaps_champion_and_previous(world: World) -> None:
    crown(world, "1", "2")
    state = promote.rollback(world.store, MODEL, "bo", "it reads worse")
    assert (state.champion, state.previous) == ("1", "2")
    assert world.store.ledger.list(MODEL)[0].to_version == "1"


def test_there_is_no_rollback_without_a_previous(world: World) -> None:
    crown(world, "1")
    with pytest.raises(Conflict, match="no previous"):
        promote.rollback(world.store, MODEL, "bo", "")


def test_two_people_who_roll_back_the_same_version_do_it_once(world: World) -> None:
    crown(world, "1", "2")
    promote.rollback(world.store, MODEL, "ann", "it reads worse", "1")
    state = promote.rollback(world.store, MODEL, "bo", "it reads worse", "1")
    assert (state.champion, state.previous, state.revision) == ("1", "2", 3)
    with pytest.raises(Conflict, match="the previous champion is version 2 by now, not 3"):
        promote.rollback(world.store, MODEL, "bo", "it reads worse", "3")


def test_no_second_rollback_brings_back_what_a_person_let_in_once(world: World) -> None:
    crown(world, "1")
    world.version("2", Outcome.FAILED, "worse")
    promote.promote(world.store, MODEL, "2", "ada", "for the fair", "override")
    promote.rollback(world.store, MODEL, "bo", "it reads worse")
    with pytest.raises(Refused, match="override the gate anew"):
        promote.rollback(world.store, MODEL, "bo", "")
    assert world.store.serving.get(MODEL).champion == "1"
    promote.promote(world.store, MODEL, "2", "ada", "the fair again", "override")
    crown(world, "3")
    assert promote.rollback(world.store, MODEL, "bo", "").champion == "2", "nobody has taken it back since"


def test_only_a_passed_version_is_admitted(world: World) -> None:
    world.version("1")
    world.version("2", Outcome.FAILED, "golden set worse by 20 %")
    world.version("3", Outcome.INCONCLUSIVE, "too few lines")
    world.version("4", None)
    assert promote.admit(world.store, MODEL, "1") is not None
    assert promote.admit(world.store, MODEL, "4") is None
    for version, words in (("2", "golden set worse"), ("3", "too few lines")):
        with pytest.raises(Refused, match=words):
            promote.admit(world.store, MODEL, version)
    with pytest.raises(NotFound):
        promote.admit(world.store, MODEL, "9")


def test_aliases_are_owed_until_they_have_moved(world: World) -> None:
    assert not promote.owed(world.store, MODEL)
    crown(world, "1", "2")
    assert promote.owed(world.store, MODEL)
    settle(world)
    assert not promote.owed(world.store, MODEL)
    assert world.registry.aliases == {(MODEL, "champion"): "2", (MODEL, "previous"): "1"}
    assert actions(world) == ["promote", "promote", "aliases"]


def test_the_debt_stays_while_mlflow_is_down(world: World) -> None:
    crown(world, "1")
    world.registry.down = True
    with pytest.raises(NotReady):
        settle(world)
    assert promote.owed(world.store, MODEL)


def test_a_change_in_between_is_not_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody rolls back while aliases are being moved: the last word of the database wins."""
    crown(world, "1", "2")
    set_alias, once = world.registry.set_alias, iter([True])

    def slow(model: str, alias: str, version: str) -> None:
        if next(once, False):
            promote.rollback(world.store, MODEL, "bo", "now")
        set_alias(model, alias, version)

    monkeypatch.setattr(world.registry, "set_alias", slow)
    settle(world)
    assert world.registry.aliases[MODEL, "champion"] == "1"
    assert not promote.owed(world.store, MODEL)


def test_a_change_after_the_aliases_moved_is_still_owed(world: World) -> None:
    crown(world, "1", "2")
    late = promote.entry(MODEL, "aliases", "redpencil", "", None, "1", aliases="moved", revision=1)
    world.store.ledger.append(late)  # entered by a slower one, about an older revision
    assert promote.owed(world.store, MODEL)


def test_a_refusal_is_entered_once(world: World) -> None:
    world.version("2", Outcome.FAILED, "worse")
    for _ in range(3):
        promote.refuse(world.store, MODEL, "2", "mlflow", "worse")
    assert actions(world) == ["refuse"]


def test_the_challengers_alias_goes_when_it_has_won(world: World) -> None:
    crown(world, "1")
    world.version("2")
    world.registry.aliases[MODEL, "challenger"] = "2"
    settle(world)
    assert world.registry.aliases[MODEL, "challenger"] == "2"
    promote.promote(world.store, MODEL, "2", "ada", "")
    settle(world)
    assert (MODEL, "challenger") not in world.registry.aliases
