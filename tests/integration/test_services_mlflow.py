"""The reconciler beside a real MLflow: moved aliases, refusals, outages, things registered by hand."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
from mlflow_server import MlflowServer
from service_house import MODEL, World

from redpencil import bundle
from redpencil.gate import Latency, judge
from redpencil.registry import Registry
from redpencil.types import ModelVersion, Outcome
from services import leash, promote
from services.app import watch

watched: list[Callable[[], None]] = []
"""How to stop the watchers of the services, while they run."""


@pytest.fixture
def world(tmp_path: Path, mlflow_server: MlflowServer) -> Iterator[World]:
    """Services whose watchers run, a fresh model in the registry, version 1 being served."""
    registry = Registry(mlflow_server.url)
    clear(registry)
    world = World(tmp_path, registry=registry, mlflow_port=mlflow_server.port)
    version(world, Outcome.PASSED)
    watched.append(watch(world.house))
    try:
        until(lambda: champion(world) == "1" == alias(world))
        yield world
    finally:
        watched.pop()()
        world.store.close()


def clear(registry: Registry) -> None:
    registry.ensure_model(MODEL)
    registry.client.delete_registered_model(MODEL)


def version(world: World, outcome: Outcome | None, **misread: str) -> str:
    """A bundle, registered as the training cycle does it, and judged."""
    folder = world.settings.home / f"bundle-{time.monotonic_ns()}"
    tiny_bundle.build(folder, misread=misread, lineage={"n": time.time()})
    kept = bundle.put(folder, world.house.blobs)
    made = str(world.registry.register(MODEL, folder, {"bundle.sha256": kept}))
    world.store.versions.add(ModelVersion(MODEL, made, kept, time.time()))
    if outcome is not None:
        said = judge(holdout=[], trained=[], golden=[], latency=Latency(), candidate=made)
        said = replace(said, champion=world.store.serving.get(MODEL).champion or "")
        said = replace(said, outcome=outcome, reasons=("golden set worse",), judged_at=time.time())
        world.store.versions.put_verdict(MODEL, made, said)
    return made


def until(done: Callable[[], Any], timeout_s: float = 120.0) -> None:
    begun = time.monotonic()
    while not done():
        assert time.monotonic() - begun < timeout_s
        time.sleep(0.05)


def champion(world: World) -> str | None:
    return world.store.serving.get(MODEL).champion


def alias(world: World, name: str = "champion") -> str | None:
    return world.house.registry.alias(MODEL, name)


def person_moves_alias(world: World, version: str) -> None:
    world.house.registry.client.set_registered_model_alias(MODEL, "champion", version)


def standing(world: World) -> str:
    return world.house.reconciler.standings[MODEL].state


def test_a_moved_alias_is_followed(world: World) -> None:
    second = version(world, Outcome.PASSED)
    person_moves_alias(world, second)
    until(lambda: champion(world) == second)
    until(lambda: alias(world, "previous") == "1")


def test_a_failed_version_is_refused_and_told_why(world: World) -> None:
    second = version(world, Outcome.FAILED)
    person_moves_alias(world, second)
    until(lambda: standing(world) == "refused")
    assert (champion(world), alias(world)) == ("1", "1")
    tags = world.house.registry.tags(MODEL, second)
    assert "golden set worse" in tags["gate.refused"]
    assert tags["gate.verdict"] == "failed"
    world.house.registry.set_tags(MODEL, second, {"gate.override": "Ada: it is what we need"})
    person_moves_alias(world, second)
    until(lambda: champion(world) == second)
    assert world.store.ledger.deployments(MODEL, second)[0].who == "Ada"


def test_a_rollback_needs_no_mlflow_and_the_alias_follows(world: World, mlflow_server: MlflowServer) -> None:
    second = version(world, Outcome.PASSED)
    person_moves_alias(world, second)
    until(lambda: champion(world) == second and not promote.owed(world.store, MODEL))
    mlflow_server.stop()
    try:
        until(lambda: standing(world) == "stalled")
        answer = world.client().post(f"/v1/models/{MODEL}/rollback", json={"why": "worse"})
        assert (answer.json()["champion"], answer.json()["aliases"]) == ("1", "pending")
    finally:
        mlflow_server.start()
    until(lambda: not promote.owed(world.store, MODEL))
    assert (champion(world), alias(world), alias(world, "previous")) == ("1", "1", second)


def test_an_alias_moved_during_an_outage_of_the_services_is_followed(world: World) -> None:
    second = version(world, Outcome.PASSED)
    watched.pop()()
    world.registry.client.delete_registered_model_alias(MODEL, "champion")
    person_moves_alias(world, second)
    watched.append(watch(world.house))
    until(lambda: champion(world) == second)


def test_a_deleted_alias_comes_back(world: World) -> None:
    world.registry.client.delete_registered_model_alias(MODEL, "champion")
    until(lambda: alias(world) == "1")
    assert champion(world) == "1"


def test_a_bundle_registered_by_hand_is_judged_first(world: World, tmp_path: Path) -> None:
    tiny_bundle.build(tmp_path / "hand", lineage={"by": "hand"})
    world.house.judge._start = Never()
    made = str(world.registry.register(MODEL, tmp_path / "hand", {}))
    person_moves_alias(world, made)
    until(lambda: standing(world) in ("waiting", "judging"))
    assert world.store.versions.get(MODEL, made).bundle == bundle.bundle_id(tmp_path / "hand")
    assert champion(world) == "1"


def test_a_pickle_registered_by_hand_is_refused_and_never_loaded(world: World, tmp_path: Path) -> None:
    client = world.registry.client
    trap = tmp_path / "pwned"
    (tmp_path / "model.pkl").write_bytes(f"cposix\nsystem\n(S'touch {trap}'\ntR.".encode())
    run = client.create_run("0").info.run_id
    client.log_artifact(run, str(tmp_path / "model.pkl"), "bundle")
    made = str(client.create_model_version(MODEL, f"runs:/{run}/bundle", run).version)
    person_moves_alias(world, made)
    until(lambda: standing(world) == "refused")
    assert "no bundle" in world.house.reconciler.standings[MODEL].why
    assert (champion(world), alias(world)) == ("1", "1")
    assert not trap.exists()


def test_a_version_that_holds_nothing_is_refused(world: World) -> None:
    client = world.registry.client
    run = client.create_run("0").info.run_id
    made = str(client.create_model_version(MODEL, f"runs:/{run}/bundle", run).version)
    person_moves_alias(world, made)
    until(lambda: standing(world) == "refused")
    assert alias(world) == "1"


class Never:
    """Starts a trial that does not end by itself."""

    def __call__(self, command: list[str], log: Path) -> Any:
        return leash.start([sys.executable, "-c", "import time; time.sleep(60)"], log)
