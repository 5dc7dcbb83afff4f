"""A request under an Idempotency-Key is done once, wherever its process was killed with `kill -9`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_house import MODEL, Client, World, actions, champion, correct

from redpencil.store import idempotency

TESTS = Path(__file__).parents[1]
KEY = {"idempotency-key": "once"}

DYING = """
import json, os, pkgutil, signal, sys
from pathlib import Path
from fake_registry import FakeRegistry
from redpencil.settings import Settings
from service_house import Client
from services.app import assemble, furnish

home, moment, path, body, headers = sys.argv[1:]
owner, name = moment.rsplit(".", 1)
setattr(pkgutil.resolve_name(owner), name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
app = assemble(furnish(Settings(home=Path(home)), FakeRegistry()), watching=False)
Client(app, {"x-author": "ada"}).post(path, json=json.loads(body), headers=json.loads(headers))
"""

WORK_IS_DONE = "redpencil.store.idempotency.Idempotency.finish"
ANSWER_IS_KEPT = "services.once._json"
REPLICAS_FOLLOW = "services.models._settled"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "home")
    yield world
    world.store.close()


@pytest.fixture
def client(world: World, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Of a process that holds whatever another one has in flight to be abandoned."""
    monkeypatch.setattr(idempotency, "ABANDONED_S", -1)
    return world.client()


def killed(world: World, moment: str, path: str, body: dict[str, Any]) -> None:
    """Another process is asked, and dies as soon as it comes to a moment."""
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    asked = [str(world.settings.home), moment, path, json.dumps(body), json.dumps(KEY)]
    done = subprocess.run([sys.executable, "-c", DYING, *asked], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("moment", [WORK_IS_DONE, ANSWER_IS_KEPT])
def test_a_correction_is_kept_once(world: World, client: Client, moment: str) -> None:
    body = {"prediction_id": world.prediction("x").id, "text": "y"}
    killed(world, moment, "/v1/corrections", body)
    answers = [client.post("/v1/corrections", json=body, headers=KEY) for _ in range(2)]
    assert [a.status_code for a in answers] == [201, 201]
    assert [c.id for c, _ in world.store.corrections.list()] == [answers[0].json()["id"]]
    assert ("idempotency-replayed" in answers[0].headers) == (moment == ANSWER_IS_KEPT)


@pytest.mark.parametrize("moment", [WORK_IS_DONE, ANSWER_IS_KEPT])
def test_a_run_is_queued_once(world: World, client: Client, moment: str) -> None:
    correct(client, world.prediction("x"), "y")
    killed(world, moment, "/v1/training-runs", {})
    answer = client.post("/v1/training-runs", json={}, headers=KEY)
    assert answer.status_code == 202
    assert [r.id for r in world.store.runs.list()] == [answer.json()["id"]]


@pytest.mark.parametrize("moment", [WORK_IS_DONE, REPLICAS_FOLLOW, ANSWER_IS_KEPT])
def test_a_rollback_is_not_undone_by_another(world: World, client: Client, moment: str) -> None:
    world.serve("1", "2")
    path = f"/v1/models/{MODEL}/rollback"
    killed(world, moment, path, {"why": "2 is bad"})
    answer = client.post(path, json={"why": "2 is bad"}, headers=KEY)
    assert (answer.status_code, answer.json()["champion"], champion(world)) == (200, "1", "1")
    assert actions(world).count("rollback") == 1


@pytest.mark.parametrize("moment", [WORK_IS_DONE, ANSWER_IS_KEPT])
def test_an_experiment_is_begun_once(world: World, client: Client, moment: str) -> None:
    world.serve("1")
    world.version("2")
    killed(world, moment, "/v1/experiments", {"challenger": "2", "weight": 0.5})
    answer = client.post("/v1/experiments", json={"challenger": "2", "weight": 0.5}, headers=KEY)
    assert answer.status_code == 201
    assert [e.id for e in world.store.experiments.list(MODEL)] == [answer.json()["id"]]
    assert world.store.serving.get(MODEL).experiment == answer.json()["id"]
