"""A version that nobody has judged yet: the gate is asked, one at a time, and holds up no other."""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
from service_house import MODEL, World, alias, champion, last, point

from redpencil.types import Outcome
from services import leash, promote
from services.judge import Judge


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.house.judge.stop()
    world.store.close()


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


def test_a_bundle_registered_by_hand_is_taken_in_and_judged(world: World, tmp_path: Path) -> None:
    world.serve("1")
    tiny_bundle.build(tmp_path / "by-hand", lineage={"by": "hand"})
    world.registry.add(MODEL, "7", tmp_path / "by-hand")
    point(world, "7")
    assert world.tick().state in ("waiting", "judging")
    assert world.house.blobs.has(world.store.versions.get(MODEL, "7").bundle)
    assert champion(world) == "1"


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


def test_what_passed_beside_an_earlier_champion_is_held_against_todays(world: World) -> None:
    world.serve("1")
    world.version("2")
    world.version("3")
    for version in ("2", "3"):
        point(world, version)
        standing = world.tick()
    assert (champion(world), standing.state) == ("2", "waiting")
    assert "3 was judged beside 1, and 2 is served now" in standing.why
    world.judge("3", Outcome.FAILED, "worse than 2")
    assert world.tick().state == "refused"
    assert (champion(world), alias(world)) == ("2", "2")
    point(world, "1")
    assert world.tick().state == "agreed", "what was served before needs no new verdict"
    assert champion(world) == "1"


def test_a_trial_that_did_not_pass_has_not_broken_down(world: World) -> None:
    """Its status says so, and a later question is answered by a trial of its own."""
    world.serve("1")
    world.version("2", Outcome.INCONCLUSIVE)
    with_judge(world, "import sys; print('too few lines'); sys.exit(3)")
    world.house.judge.ask(MODEL, "2")
    until_judged(world)
    world.serve("3")
    point(world, "2")
    assert world.tick().state == "waiting"


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


def test_who_asked_is_remembered_whatever_happens_while_it_is_judged(world: World) -> None:
    world.serve("1")
    world.version("2", None)
    world.version("9")
    client = world.client(**{"x-author": "eve"})
    client.post(f"/v1/models/{MODEL}/promote", json={"version": "2", "why": "looks good"})
    client.post("/v1/experiments", json={"challenger": "9", "mirror": 0.5})
    world.judge("2", Outcome.PASSED)
    for _ in range(3):
        world.tick()
    assert (last(world, "promote").who, last(world, "promote").why) == ("eve", "looks good")


def another_is_served(world: World) -> None:
    world.serve("3")


def another_is_asked_for(world: World) -> None:
    world.version("3", None)
    world.store.ledger.append(promote.entry(MODEL, "ask", "bob", "", "1", "3"))


@pytest.mark.parametrize("meanwhile", [another_is_served, another_is_asked_for])
def test_who_asked_before_that_is_not_who_moved_the_alias(world: World, meanwhile: Any) -> None:
    world.serve("1")
    world.version("2", None)
    world.store.ledger.append(promote.entry(MODEL, "ask", "eve", "looks good", "1", "2"))
    meanwhile(world)
    world.judge("2", Outcome.PASSED)
    point(world, "2")
    for _ in range(2):
        world.tick()
    assert last(world, "promote").who == "mlflow"


def test_what_broke_down_before_says_nothing_of_a_new_trial(world: World) -> None:
    world.serve("1")
    world.version("2", None)
    with_judge(world, "import sys; sys.exit('no space left on device')")
    asked_at = time.time()
    world.house.judge.ask(MODEL, "2")  # by somebody who does not wait for the answer
    until_judged(world)
    assert "no space" in (world.house.judge.failed_since(MODEL, "2", asked_at) or "")
    assert world.house.judge.failed_since(MODEL, "2", time.time()) is None
    with_judge(world, None)
    assert world.client().post(f"/v1/models/{MODEL}/promote", json={"version": "2"}).status_code == 202
    assert world.tick().state == "waiting"
    world.house.judge.work()
    assert world.tick().state == "judging"


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
