"""Following the registry's alias: what is let in, what is refused, and what survives an accident."""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
from service_house import MODEL, World

from redpencil.types import Experiment, Outcome
from services import leash, promote
from services.judge import Judge


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.house.judge.stop()
    world.store.close()


def point(world: World, version: str) -> None:
    """A person moves the alias in MLflow."""
    world.registry.aliases[MODEL, "champion"] = version


def champion(world: World) -> str | None:
    return world.store.serving.get(MODEL).champion


def alias(world: World) -> str | None:
    return world.registry.aliases.get((MODEL, "champion"))


def actions(world: World) -> list[str]:
    return [e.action for e in promote.entries(world.store, MODEL)][::-1]


def last(world: World, action: str) -> Any:
    return next(e for e in promote.entries(world.store, MODEL) if e.action == action)


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


def test_a_version_that_waits_for_the_gate_is_not_forgotten_when_an_experiment_ends(world: World) -> None:
    world.serve("1")
    world.version("2")
    world.version("3", outcome=None)
    trying = {"challenger": "2", "weight": 0.1}
    promote.share(world.store, MODEL, lambda s: replace(s, **trying), "experiment", "ada", "")
    world.tick()
    point(world, "3")
    free = {"challenger": None, "weight": 0.0}
    promote.share(world.store, MODEL, lambda s: replace(s, **free), "experiment-end", "ada", "")
    world.tick()
    assert alias(world) == "3", "what a person wants stays wanted"
    world.judge("3", Outcome.PASSED)
    world.tick()
    assert champion(world) == "3"


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


@pytest.mark.parametrize("tag", ["yes", "Ada:", ": because", "Ada"])
def test_an_override_needs_a_name_and_a_reason(world: World, tag: str) -> None:
    world.serve("1")
    world.version("2", Outcome.FAILED, "worse")
    world.registry.set_tags(MODEL, "2", {"gate.override": tag})
    point(world, "2")
    assert "NAME: REASON" in world.tick().why
    assert champion(world) == "1"


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


def test_a_bundle_registered_by_hand_is_taken_in_and_judged(world: World, tmp_path: Path) -> None:
    world.serve("1")
    tiny_bundle.build(tmp_path / "by-hand", lineage={"by": "hand"})
    world.registry.add(MODEL, "7", tmp_path / "by-hand")
    point(world, "7")
    assert world.tick().state in ("waiting", "judging")
    assert world.house.blobs.has(world.store.versions.get(MODEL, "7").bundle)
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


def test_an_unjudged_version_is_judged_and_then_followed(world: World) -> None:
    world.serve("1")
    world.version("2", None)
    point(world, "2")
    with_judge(world, lambda: None)
    assert world.tick().state == "waiting"
    world.house.judge.work()
    assert world.tick().state == "judging"
    world.judge("2", Outcome.PASSED)
    assert world.tick().state == "agreed"
    assert champion(world) == "2"
    assert world.registry.versions[MODEL, "2"]["gate.verdict"] == "passed"


def test_where_the_gate_breaks_down_the_version_is_refused(world: World) -> None:
    world.serve("1")
    world.version("2", None)
    point(world, "2")
    with_judge(world, "import sys; sys.exit('no golden set')")
    world.tick()
    until_judged(world)
    standing = world.tick()
    assert standing.state == "refused"
    assert "no golden set" in standing.why
    assert alias(world) == "1"


def test_judging_one_holds_up_no_other(world: World) -> None:
    world.serve("1")
    world.version("2", None)
    world.version("3")
    point(world, "2")
    with_judge(world, "import time; time.sleep(60)")
    world.tick()
    world.house.judge.work()
    assert world.tick().state == "judging"
    point(world, "3")
    assert world.tick().state == "agreed"
    assert champion(world) == "3"


def test_versions_are_judged_one_at_a_time(tmp_path: Path) -> None:
    started: list[list[str]] = []

    def start(command: list[str], log: Path) -> Any:
        started.append(command[-2:])
        return leash.start([sys.executable, "-c", "import time; time.sleep(60)"], log)

    judge = Judge(tmp_path, start)
    judge.ask("ocr", "1")
    judge.ask("ocr", "2")
    judge.ask("ocr", "2")
    judge.work()
    judge.work()
    assert started == [["ocr", "1"]]
    assert judge.ask("ocr", "1") == "judging"
    judge.stop()
    assert judge.now is None


def test_who_asked_by_api_is_who_promoted(world: World) -> None:
    world.serve("1")
    world.version("2", None)
    asked = promote.entry(MODEL, "ask", "eve", "looks good", "1", "2")
    world.store.ledger.append(asked)
    point(world, "2")
    world.tick()
    world.judge("2", Outcome.PASSED)
    world.tick()
    assert last(world, "promote").who == "eve"


def test_a_failing_first_version_is_refused_once(world: World) -> None:
    world.version("1", Outcome.FAILED, "reads nothing")
    assert world.tick().state == "refused"
    calls = list(world.registry.calls)
    assert world.tick().state == "refused"
    assert world.registry.calls == calls
    assert champion(world) is None


def test_an_experiment_cut_off_while_starting_is_ended(world: World) -> None:
    world.serve("1")
    world.version("2")
    long_ago = time.time() - 3600
    world.store.experiments.start(Experiment("exp_1", MODEL, "1", "2", long_ago, "ada"))
    world.tick()
    assert world.store.experiments.current(MODEL) is None


def with_judge(world: World, code: Any) -> None:
    """A judge whose trials run this code."""
    command = [sys.executable, "-c", code if isinstance(code, str) else "import time; time.sleep(60)"]
    world.house.judge._start = lambda _, log: leash.start(command, log)


def until_judged(world: World) -> None:
    deadline = time.monotonic() + 20
    world.house.judge.work()
    while world.house.judge.now is not None and time.monotonic() < deadline:
        time.sleep(0.05)
        world.house.judge.work()
