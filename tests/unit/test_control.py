"""Runs, versions, experiments, ledger and status over HTTP."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from service_house import MODEL, Client, World, error
from starlette.responses import JSONResponse

from redpencil.types import Outcome, RunState, Variant
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


def correct(client: Client, prediction: Any, text: str, **fields: Any) -> None:
    body = {"prediction_id": prediction.id, "text": text} | fields
    assert client.post("/v1/corrections", json=body).status_code == 201


def actions(world: World) -> list[str]:
    return [e.action for e in promote.entries(world.store, MODEL)][::-1]


# --- training runs ------------------------------------------------------------------------------


def test_a_run_is_answered_with_its_id_at_once(world: World, client: Client) -> None:
    correct(client, world.prediction("x"), "y")
    answer = client.post("/v1/training-runs", json={"params": {"steps": 10}})
    assert answer.status_code == 202
    run = world.store.runs.get(answer.json()["id"])
    assert (run.state, run.recipe, run.params, run.trigger) == (
        RunState.QUEUED,
        "ppocr",
        {"steps": 10},
        "api",
    )


def test_a_second_run_waits_for_the_first(world: World, client: Client) -> None:
    correct(client, world.prediction("x"), "y")
    first, second = (client.post("/v1/training-runs", json={}).json()["id"] for _ in range(2))
    assert client.get(f"/v1/training-runs/{second}").json()["queue"] == 1
    listed = client.get("/v1/training-runs", params={"state": "queued"}).json()["items"]
    assert [r["id"] for r in listed] == [second, first]
    assert client.post(f"/v1/training-runs/{second}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/v1/training-runs/{second}/cancel").status_code == 409


def test_the_same_idempotency_key_starts_one_run(world: World, client: Client) -> None:
    correct(client, world.prediction("x"), "y")
    headers = {"idempotency-key": "run-1"}
    ids = {client.post("/v1/training-runs", json={}, headers=headers).json()["id"] for _ in range(3)}
    assert len(ids) == len(world.store.runs.list()) == 1


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"recipe": "nonsense"}, 422, "ppocr"),
        ({"recipe": "../etc"}, 422, "recipe"),
        ({"model": "other"}, 404, "no model 'other'"),
        ({"params": {"steps": [1]}}, 422, "params"),
        ({"params": {"lr": float("inf")}}, 422, "params"),
        ({"surprise": 1}, 422, "surprise"),
    ],
)
def test_a_run_that_cannot_be_is_refused(
    world: World, client: Client, body: Any, status: int, words: str
) -> None:
    import json

    correct(client, world.prediction("x"), "y")
    headers = {"content-type": "application/json"}
    answer = client.post("/v1/training-runs", content=json.dumps(body), headers=headers)
    assert answer.status_code == status
    assert words in error(answer)


def test_without_corrections_there_is_nothing_to_learn(client: Client) -> None:
    answer = client.post("/v1/training-runs", json={})
    assert answer.status_code == 409
    assert "no corrections" in error(answer)


def test_a_run_shows_progress_and_links(world: World, client: Client) -> None:
    correct(client, world.prediction("x"), "y")
    id = client.post("/v1/training-runs", json={}).json()["id"]
    world.store.runs.update(id, progress={"step": 1, "eta_s": 9}, mlflow_run="abc", version="2")
    view = client.get(f"/v1/training-runs/{id}").json()
    assert view["eta_s"] == 9
    assert view["links"]["run"].endswith("/#/runs/abc")
    assert view["links"]["version"].endswith("/#/models/ocr/versions/2")
    assert client.get(f"/v1/training-runs/{id}/log").json() == {"log": ""}


def test_a_failed_run_can_be_resumed(world: World, client: Client) -> None:
    correct(client, world.prediction("x"), "y")
    id = client.post("/v1/training-runs", json={}).json()["id"]
    assert client.post(f"/v1/training-runs/{id}/resume").status_code == 409
    world.store.runs.claim_next(MODEL)
    client.post(f"/v1/training-runs/{id}/cancel")
    world.store.runs.update(id, state=RunState.FAILED, error="MLflow was down", attempts=3)
    assert client.post(f"/v1/training-runs/{id}/resume").status_code == 202
    assert not world.store.runs.cancel_requested(id), "what was asked of the attempt before is over"
    run = world.store.runs.get(id)
    assert (run.state, run.attempts, run.error) == (RunState.QUEUED, 0, None)


# --- versions and what is served ----------------------------------------------------------------


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


def test_an_unjudged_version_is_judged_first(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2", None)
    answer = client.post(f"/v1/models/{MODEL}/promote", json={"version": "2"})
    assert (answer.status_code, answer.json()["state"]) == (202, "judging")
    assert world.tick().state == "waiting"
    world.judge("2", Outcome.PASSED)
    world.tick()
    assert world.store.ledger.deployments(MODEL, "2")[0].who == "ada"


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


def test_a_version_whose_bundle_is_gone_is_not_promoted(world: World, client: Client) -> None:
    from redpencil.types import ModelVersion

    world.serve("1")
    world.store.versions.add(ModelVersion(MODEL, "2", "0" * 64, time.time()))
    world.judge("2", Outcome.PASSED)
    answer = client.post(f"/v1/models/{MODEL}/promote", json={"version": "2"})
    assert answer.status_code == 404
    assert "backup" in error(answer)


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


def test_replicas_say_whether_they_are_up_to_date(world: World, client: Client) -> None:
    world.serve("1")
    world.store.replicas.beat("r1", MODEL, 1, 1, "1", None, None, None)
    world.store.replicas.beat("r2", MODEL, 2, 0, None, None, None, "bundle is damaged")
    replicas = client.get(f"/v1/models/{MODEL}/serving").json()["replicas"]
    assert [(r["replica"], r["up_to_date"], r["error"]) for r in replicas] == [
        ("r1", True, None),
        ("r2", False, "bundle is damaged"),
    ]


# --- experiments --------------------------------------------------------------------------------


def begin(client: Client, **fields: Any) -> httpx.Response:
    return client.post("/v1/experiments", json={"challenger": "2"} | fields)


def test_an_experiment_shares_the_traffic_and_ends(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2")
    made = begin(client, weight=0.5, mirror=0.1)
    assert made.status_code == 201
    id = made.json()["id"]
    state = world.store.serving.get(MODEL)
    assert (state.challenger, state.weight, state.mirror, state.experiment) == ("2", 0.5, 0.1, id)
    assert begin(client).status_code == 409
    changed = client.request("PATCH", f"/v1/experiments/{id}", json={"weight": 0.9})
    assert (changed.json()["weight"], changed.json()["mirror"]) == (0.9, 0.1)
    ended = client.request("DELETE", f"/v1/experiments/{id}", json={"why": "enough"})
    assert ended.json()["why"] == "enough"
    assert world.store.serving.get(MODEL).challenger is None
    assert client.request("PATCH", f"/v1/experiments/{id}", json={"weight": 0}).status_code == 409
    assert [e["id"] for e in client.get("/v1/experiments").json()["items"]] == [id]


def test_what_did_not_pass_may_read_along_but_not_answer(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2", Outcome.INCONCLUSIVE, "too few lines")
    answer = begin(client, weight=0.1)
    assert answer.status_code == 409
    assert "mirror" in error(answer)
    id = begin(client, mirror=1.0).json()["id"]
    assert client.request("PATCH", f"/v1/experiments/{id}", json={"weight": 0.1}).status_code == 409


def test_a_promotion_ends_the_experiment(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2")
    id = begin(client, weight=0.5).json()["id"]
    client.post(f"/v1/models/{MODEL}/promote", json={"version": "2"})
    state = world.store.serving.get(MODEL)
    assert (state.champion, state.challenger, state.weight, state.experiment) == ("2", None, 0.0, None)
    assert world.store.experiments.get(id).ended_at is not None


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"challenger": "1"}, 422),
        ({"challenger": "9"}, 404),
        ({"weight": 1.5}, 422),
        ({"mirror": -0.1}, 422),
    ],
)
def test_an_experiment_that_cannot_be_is_refused(
    world: World, client: Client, fields: Any, status: int
) -> None:
    world.serve("1")
    world.version("2")
    assert begin(client, **fields).status_code == status
    assert world.store.experiments.current(MODEL) is None


def test_the_report_counts_labels_of_both_arms(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2")
    id = begin(client, weight=0.5).json()["id"]
    revision = world.store.serving.get(MODEL).revision
    for n in range(6):
        text = f"line {chr(97 + n)}"
        arm = {"variant": Variant.CHALLENGER, "version": "2"} if n % 2 else {}
        made = world.prediction(text, revision=revision, **arm)
        correct(client, made, text if n % 2 else "line z")
    chosen = world.prediction("named", variant=Variant.EXPLICIT, version="2", revision=revision)
    correct(client, chosen, "other")
    report = client.get(f"/v1/experiments/{id}").json()["report"]
    assert (report["arms"]["A"]["labels"], report["arms"]["B"]["labels"]) == (3, 3)
    assert report["arms"]["B"]["cer"] == 0
    assert report["arms"]["A"]["cer"] > 0
    assert report["arms"]["A"]["requests"] == 3
    assert (report["sample_ratio"]["a"], report["sample_ratio"]["b"]) == (3, 3)
    assert report["verdict"] == "not yet"


def test_mirrored_images_are_scored_by_both(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2")
    id = begin(client, mirror=1.0).json()["id"]
    shown = world.prediction("hallo")
    image = world.store.images.get(shown.image)
    world.prediction("hello", version="2", variant=Variant.CHALLENGER, image=image, mirror_of=shown.id)
    correct(client, shown, "hello")
    assert client.get(f"/v1/experiments/{id}").json()["report"]["chosen_pairs"] == 1


# --- the rest -----------------------------------------------------------------------------------


def test_the_ledger_is_read_page_by_page(world: World, client: Client) -> None:
    world.serve("1", "2", "3")
    seen, after = [], None
    while True:
        page = client.get("/v1/ledger", params={"limit": 2} | ({"after": after} if after else {})).json()
        seen += [e["action"] for e in page["items"]]
        if (after := page["next"]) is None:
            break
    assert seen[::-1] == actions(world) == ["adopt", "aliases", "promote", "aliases", "promote", "aliases"]


def test_lineage_goes_both_ways(world: World, client: Client) -> None:
    world.serve("1")
    made = world.prediction("x")
    correct(client, made, "y")
    assert client.get(f"/v1/lineage/{made.id}").status_code == 200
    assert client.get(f"/v1/lineage/{MODEL}/1").status_code == 200
    assert client.get("/v1/lineage/pred_none").status_code == 404


def test_status_names_every_part(world: World, client: Client) -> None:
    world.serve("1")
    status = client.get("/v1/status").json()
    assert status["parts"]["serving"]["up"] is False
    assert "does not answer" in status["parts"]["mlflow"]["why"]
    assert status["disk"]["free_bytes"] > 0
    assert status["models"][MODEL]["serving"]["champion"] == "1"
    assert status["models"][MODEL]["serving"]["registry"]["state"] == "agreed"


def test_status_says_that_mlflow_is_down(world: World, client: Client) -> None:
    world.serve("1")
    world.registry.down = True
    world.tick()
    part = client.get("/v1/status").json()["parts"]["reconciler"]
    assert not part["up"]
    assert "MLflow" in part["why"]


def test_metrics_are_there(world: World, client: Client) -> None:
    world.serve("1")
    text = client.get("/metrics").text
    assert 'redpencil_serving_revision{model="ocr"} 1.0' in text
    assert 'redpencil_registry_agrees{model="ocr"} 1.0' in text


def test_uploads_are_passed_on_to_serving(world: World) -> None:
    client = world.client()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"].decode()
        said = {"got": body, "query": scope["query_string"].decode()}
        await JSONResponse(said, 200, {"x-model-version": "1"})(scope, receive, send)

    client.app.state.serving = httpx.AsyncClient(transport=httpx.ASGITransport(answer))
    got = client.post("/v1/ocr?mode=line", content=b"pixels")
    assert got.json() == {"got": "pixels", "query": "mode=line"}
    assert got.headers["x-model-version"] == "1"


def test_where_serving_is_down_uploads_say_so(world: World) -> None:
    client = world.client()
    client.app.state.serving = httpx.AsyncClient()
    answer = client.post("/v1/ocr", content=b"pixels")
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


def test_the_console_is_open_and_the_data_is_not(tmp_path: Path) -> None:
    world = World(tmp_path, api_keys="secret")
    client = world.client()
    index = client.get("/")
    assert index.status_code == 200
    assert "script-src 'self'" in index.headers["content-security-policy"]
    assert client.get("/health").status_code == 200
    assert client.get("/v1/corrections").status_code == 401
    keyed = world.client(authorization="Bearer secret")
    assert keyed.get("/v1/corrections").status_code == 200
    for path in ("/console/__init__.py", "/console/..%2Fapp.py", "/console/none.html"):
        assert client.get(path).status_code == 404


def test_a_promotion_is_answered_when_the_replicas_serve_it(world: World, client: Client) -> None:
    world.serve("1")
    world.version("2")
    beat = world.store.replicas.beat
    beat("replica-1", MODEL, 1, world.store.serving.get(MODEL).revision, "1", None, None, None)

    def load() -> None:
        time.sleep(0.3)
        beat("replica-1", MODEL, 1, world.store.serving.get(MODEL).revision, "2", None, "1", None)

    loading = threading.Thread(target=load)
    loading.start()
    answer = client.post(f"/v1/models/{MODEL}/promote", json={"version": "2"}).json()
    loading.join()
    assert [(r["champion"], r["up_to_date"]) for r in answer["replicas"]] == [("2", True)]


def test_without_keys_it_answers_by_its_own_names_alone(world: World, client: Client) -> None:
    rebound = {"origin": "http://evil.example:8080", "host": "evil.example:8080"}
    for method, path in (("POST", f"/v1/models/{MODEL}/rollback"), ("GET", "/v1/status")):
        refused = client.request(method, path, headers=rebound)
        assert (refused.status_code, "not known here as 'evil.example'" in error(refused)) == (401, True)
    assert client.get("/health", headers=rebound).status_code == 200, "probes come by address"
    assert client.get("/v1/status", headers={"host": "localhost:8080"}).status_code == 200


def test_another_origins_page_cannot_change_anything(world: World, client: Client) -> None:
    world.serve("1", "2")
    path = f"/v1/models/{MODEL}/rollback"
    evil = client.post(path, json={}, headers={"origin": "http://evil.example"})
    assert evil.status_code == 401
    assert world.store.serving.get(MODEL).champion == "2"
    own = client.post(path, json={}, headers={"origin": "http://127.0.0.1"})
    assert own.status_code == 200


def test_openapi_describes_every_route(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/v1/corrections", "/v1/review/next", "/v1/training-runs", "/v1/experiments", "/v1/status"):
        assert path in paths
    assert client.get("/docs").status_code == 200
