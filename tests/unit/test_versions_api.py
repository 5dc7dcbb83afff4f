"""Versions over HTTP: promoted, refused, overridden and rolled back, and the ledger of it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_house import MODEL, Client, World, actions, error
from store_parts import statements, verdict

from redpencil.types import Outcome
from services import models, promote


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(models, "SETTLE_S", 0.01)  # the reconciler stands still here
    world = World(tmp_path, serving_port=1, mlflow_port=2)  # nothing listens there
    yield world
    world.house.judge.stop()
    world.store.close()


@pytest.fixture
def client(world: World) -> Client:
    return world.client()


def test_a_passed_version_is_promoted(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2")
    answer = client.post(f"/v1/models/{MODEL}/promote", json={"version": "2", "why": "better"})
    assert answer.status_code == 200
    assert (answer.json()["champion"], answer.json()["previous"]) == ("2", "1")
    world.tick()
    assert world.registry.aliases[MODEL, "champion"] == "2"
    assert world.store.ledger.deployments(MODEL, "2")[0].who == "ada"


def test_a_failed_version_is_refused_with_the_reasons(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2", Outcome.FAILED, "golden set worse")
    answer = client.post(f"/v1/models/{MODEL}/promote", json={"version": "2"})
    assert answer.status_code == 409
    assert "golden set worse" in error(answer)
    assert world.store.serving.get(MODEL).champion == "1"
    refusal = client.get(f"/v1/models/{MODEL}/serving").json()["last_refusal"]
    assert (refusal["to_version"], refusal["who"]) == ("2", "ada")


def test_a_champion_keeps_the_verdict_that_it_was_let_in_by(world: World, client: Client) -> None:
    """Beside nobody it would be judged by golden lines alone, and pass what it had failed."""
    world.serve("1")
    world.version("2", Outcome.FAILED)
    promote.promote(world.store, MODEL, "2", "bob", "we need it", "override")
    answer = client.post(f"/v1/models/{MODEL}/versions/2/judge")
    assert answer.status_code == 409
    assert "nothing to judge it beside" in error(answer)


def test_an_unjudged_version_is_judged_first(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2", None)
    answer = client.post(f"/v1/models/{MODEL}/promote", json={"version": "2"})
    assert (answer.status_code, answer.json()["state"]) == (202, "judging")
    assert world.tick().state == "waiting"
    world.judge("2", Outcome.PASSED)
    world.tick()
    assert world.store.ledger.deployments(MODEL, "2")[0].who == "ada"


def test_a_version_judged_beside_another_champion_is_judged_first(world: World, client: Client) -> None:
    world.serve("1")
    world.version("3", Outcome.INCONCLUSIVE)
    world.serve("2")
    told = "version 3 was judged beside 1, and 2 is served now"
    assert client.get(f"/v1/models/{MODEL}/versions/3").json()["to_be_judged"] == told
    assert client.get(f"/v1/models/{MODEL}/versions/1").json()["to_be_judged"] == "", "it was served"
    answer = client.post(f"/v1/models/{MODEL}/promote", json={"version": "3"})
    assert (answer.status_code, answer.json()["state"]) == (202, "judging")
    assert told in answer.json()["why"]
    world.judge("3", Outcome.PASSED)
    assert world.tick().state == "agreed"
    assert world.store.serving.get(MODEL).champion == "3"


def test_an_unknown_version_is_404(world: World, client: Client) -> None:
    world.serve("1")
    for action in ("promote", "override"):
        body = {"version": "99", "why": "because"}
        assert client.post(f"/v1/models/{MODEL}/{action}", json=body).status_code == 404
    assert client.get(f"/v1/models/{MODEL}/versions/99").status_code == 404
    assert client.get("/v1/models/nobody/versions").status_code == 404


def test_a_rollback_works_while_mlflow_is_down(world: World, client: Client) -> None:
    world.serve("1", "2")
    world.registry.down = True
    answer = client.post(f"/v1/models/{MODEL}/rollback", json={"why": "worse"})
    assert (answer.json()["champion"], answer.json()["aliases"]) == ("1", "pending")
    world.registry.down = False
    world.tick()
    assert client.get(f"/v1/models/{MODEL}/serving").json()["aliases"] == "moved"
    assert world.registry.aliases[MODEL, "champion"] == "1"
    assert client.post(f"/v1/models/{MODEL}/rollback", json={}).json()["champion"] == "2"


def test_an_override_needs_a_reason_and_is_on_record(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2", Outcome.FAILED, "worse")
    assert client.post(f"/v1/models/{MODEL}/override", json={"version": "2"}).status_code == 422
    body = {"version": "2", "who": "Eve", "why": "the golden set is not our trade"}
    assert client.post(f"/v1/models/{MODEL}/override", json=body).json()["champion"] == "2"
    entry = world.store.ledger.deployments(MODEL, "2")[0]
    assert (entry.action, entry.who, entry.why) == ("override", "Eve", "the golden set is not our trade")
    assert world.registry.versions[MODEL, "2"]["gate.override"] == "Eve: the golden set is not our trade"


def test_an_override_needs_something_to_override(world: World, client: Client) -> None:
    world.serve("1", "2")
    before = len(actions(world))
    answer = client.post(f"/v1/models/{MODEL}/override", json={"version": "2", "why": "to be sure"})
    assert (answer.status_code, len(actions(world))) == (409, before)
    assert "gate.override" not in world.registry.versions[MODEL, "2"]
    world.version("3", Outcome.FAILED, "worse")
    assert client.post(f"/v1/models/{MODEL}/override", json={"version": "3", "why": "  "}).status_code == 422


def test_an_override_by_a_name_with_a_colon_holds_once_too(world: World) -> None:
    world.serve("1")
    world.version("2", Outcome.FAILED, "worse")
    client = world.client(**{"x-author": "ops: bob"})
    client.post(f"/v1/models/{MODEL}/override", json={"version": "2", "why": "this once"})
    world.tick()
    client.post(f"/v1/models/{MODEL}/rollback", json={})
    world.tick()
    world.registry.set_alias(MODEL, "champion", "2")
    assert world.tick().state == "refused"
    assert world.store.serving.get(MODEL).champion == "1"


def test_a_promotion_that_was_taken_is_not_lost_in_another_one(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2")
    world.version("3", None)
    promote.promote(world.store, MODEL, "2", "bob", "passed")  # whose aliases are still owed
    answer = client.post(f"/v1/models/{MODEL}/promote", json={"version": "3"})
    assert answer.status_code == 202
    world.tick()
    assert world.registry.aliases[MODEL, "champion"] == "3"
    assert world.house.judge.pending(MODEL, "3")


def test_who_was_told_that_mlflow_is_down_has_not_asked(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2", None)
    world.registry.down = True
    assert client.post(f"/v1/models/{MODEL}/promote", json={"version": "2"}).status_code == 503
    world.registry.down = False
    assert "ask" not in actions(world)


def test_a_version_whose_bundle_is_gone_is_not_promoted(world: World, client: Client) -> None:
    from redpencil.types import ModelVersion

    world.serve("1")
    world.store.versions.add(ModelVersion(MODEL, "2", "0" * 64, time.time()))
    world.judge("2", Outcome.PASSED)
    answer = client.post(f"/v1/models/{MODEL}/promote", json={"version": "2"})
    assert answer.status_code == 404
    assert "backup" in error(answer)


def test_a_promotion_is_answered_when_the_replicas_serve_it(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2")
    beat = world.store.replicas.beat
    beat("replica-1", MODEL, 1, world.store.serving.get(MODEL).revision, "1", None, None, None)

    def load() -> None:
        deadline = time.monotonic() + 60
        while world.store.serving.get(MODEL).champion != "2" and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        beat("replica-1", MODEL, 1, world.store.serving.get(MODEL).revision, "2", None, "1", None)

    loading = threading.Thread(target=load)
    loading.start()
    answer = client.post(f"/v1/models/{MODEL}/promote", json={"version": "2"}).json()
    loading.join()
    assert [(r["champion"], r["up_to_date"]) for r in answer["replicas"]] == [("2", True)]


def test_versions_say_what_the_gate_said_and_what_they_are(world: World, client: Client) -> None:
    world.serve("1", "2")
    listed = {v["version"]: v for v in client.get(f"/v1/models/{MODEL}/versions").json()["items"]}
    assert (listed["2"]["role"], listed["1"]["role"]) == ("champion", "previous")
    assert listed["1"]["verdict"]["outcome"] == "passed"
    one = client.get(f"/v1/models/{MODEL}/versions/2").json()
    assert one["tags"]["gate.verdict"] == "passed"
    assert one["deployments"][0]["action"] == "promote"
    world.registry.down = True
    assert client.get(f"/v1/models/{MODEL}/versions/2").json()["tags"] is None


def test_a_list_of_many_versions_asks_the_database_no_more_than_one_of_few(
    world: World, client: Client
) -> None:
    sent = []
    for more in (("1", "2", "3"), ("4", "5", "6", "7")):
        world.serve(*more)
        with statements(world.store) as asked:
            listed = client.get(f"/v1/models/{MODEL}/versions").json()["items"]
        assert [v["to_be_judged"] for v in listed] == [""] * int(more[-1]), "all were served"
        assert not any("verdicts.items, verdicts." in statement for statement in asked), "none is loaded"
        sent.append(len(asked))
    assert sent[0] == sent[1]


def test_a_list_says_of_verdicts_what_each_versions_own_page_says_but_counts_items(
    world: World, client: Client
) -> None:
    world.serve("1")
    world.version("2", None)
    world.version("3", None)
    world.store.versions.put_verdict(MODEL, "1", verdict())
    items = {"corr_1": "fixed", "corr_2": "still_wrong"}
    world.store.versions.put_verdict(MODEL, "3", verdict(Outcome.FAILED, champion="0", items=items))
    for listed in client.get(f"/v1/models/{MODEL}/versions").json()["items"]:
        own = client.get(f"/v1/models/{MODEL}/versions/{listed['version']}").json()
        del own["tags"], own["deployments"]
        if own["verdict"]:
            own["verdict"]["items"] = len(own["verdict"]["items"])
        assert listed == own


def test_replicas_say_whether_they_are_up_to_date(world: World, client: Client) -> None:
    world.serve("1")
    world.store.replicas.beat("r1", MODEL, 1, 1, "1", None, None, None)
    world.store.replicas.beat("r2", MODEL, 2, 0, None, None, None, "bundle is damaged")
    replicas = client.get(f"/v1/models/{MODEL}/serving").json()["replicas"]
    assert [(r["replica"], r["up_to_date"], r["error"]) for r in replicas] == [
        ("r1", True, None),
        ("r2", False, "bundle is damaged"),
    ]


def test_the_ledger_is_read_page_by_page(world: World, client: Client) -> None:
    world.serve("1", "2", "3")
    seen, after = [], None
    while True:
        page = client.get("/v1/ledger", params={"limit": 2} | ({"after": after} if after else {})).json()
        seen += [e["action"] for e in page["items"]]
        if (after := page["next"]) is None:
            break
    assert seen[::-1] == actions(world) == ["adopt", "aliases", "promote", "aliases", "promote", "aliases"]
