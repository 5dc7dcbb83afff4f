"""The services' edge: what they tell of themselves, what they pass on, and whom they let in."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from service_house import MODEL, Client, World, correct, error
from starlette.responses import JSONResponse

from redpencil.pixels import open_pages
from services import local, models, pictures


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


@pytest.mark.parametrize(("mark", "asked"), [("a stack", ":1/health"), (None, ":9/health")])
def test_beside_serving_the_services_ask_it_without_the_proxy_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str | None, asked: str
) -> None:
    monkeypatch.setenv(local.MARK, mark) if mark else monkeypatch.delenv(local.MARK, raising=False)
    world = World(tmp_path, serving_port=1, serving_url="http://127.0.0.1:9")
    status = world.client().get("/v1/status").json()
    assert f"http://127.0.0.1{asked} does not answer" in status["parts"]["serving"]["why"]
    assert status["links"]["serving"] == "http://127.0.0.1:9"


def test_status_says_that_mlflow_is_down(world: World, client: Client) -> None:
    world.serve("1")
    world.registry.down = True
    world.tick()
    part = client.get("/v1/status").json()["parts"]["reconciler"]
    assert not part["up"]
    assert "MLflow" in part["why"]


@pytest.mark.parametrize("keys", ["", "secret"])
def test_the_page_of_the_api_loads_nothing_from_elsewhere(tmp_path: Path, keys: str) -> None:
    client = World(tmp_path, api_keys=keys).client()
    loaded = re.findall(r'(?:src|href)="([^"]+)"', client.get("/docs").text)
    assert loaded
    for address in loaded:
        assert client.get(address).status_code == 200, address


def test_metrics_are_there(world: World, client: Client) -> None:
    world.serve("1")
    text = client.get("/metrics").text
    assert 'redpencil_serving_revision{model="ocr"} 1.0' in text
    assert 'redpencil_registry_agrees{model="ocr"} 1.0' in text


def test_openapi_describes_every_route(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/v1/corrections", "/v1/review/next", "/v1/training-runs", "/v1/experiments", "/v1/status"):
        assert path in paths
    assert client.get("/docs").status_code == 200


def test_uploads_are_passed_on_to_serving(world: World) -> None:
    client = world.client()

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"].decode()
        given = dict(scope["headers"])
        said = {"got": body, "query": scope["query_string"].decode()}
        said["client"] = given.get(b"x-client-key", b"").decode()
        await JSONResponse(said, 200, {"x-model-version": "1"})(scope, receive, send)

    client.app.state.serving = httpx.AsyncClient(transport=httpx.ASGITransport(answer))
    got = client.post("/v1/ocr?mode=line", content=b"pixels", headers={"x-client-key": "Jörg".encode()})
    assert got.json() == {"got": "pixels", "query": "mode=line", "client": "Jörg"}
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
    assert client.get("/docs").status_code == 200
    assert "HTTPBearer" in client.get("/openapi.json").json()["components"]["securitySchemes"]
    assert client.get("/v1/corrections").status_code == 401
    keyed = world.client(authorization="Bearer secret")
    assert keyed.get("/v1/corrections").status_code == 200
    for path in (
        "/console/__init__.py",
        "/console/..%2Fapp.py",
        "/console/none.html",
        f"/console/{'x' * 300}.js",
    ):
        assert client.get(path).status_code == 404


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


def test_a_long_document_is_rendered_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("RGB", (300, 200), c) for c in ("white", "black", "white", "black")]
    file = io.BytesIO()
    frames[0].save(file, "PDF", save_all=True, append_images=frames[1:], resolution=100)
    rendered: list[int | None] = []

    def opened(*given: Any, only: int | None = None) -> Any:
        rendered.append(only)
        return open_pages(*given, only=only)

    monkeypatch.setattr(pictures, "open_pages", opened)
    monkeypatch.setattr(pictures, "KEPT_BYTES", 1)
    client = world.client()
    sent = {"content": file.getvalue(), "headers": {"content-type": "application/pdf"}}
    image = client.post("/v1/images?group=g", **sent).json()["image"]
    rendered.clear()
    for _ in range(3):
        assert client.get(f"/v1/images/{image}?page=3&bbox=0,0,20,20").status_code == 200
    assert rendered == [3]
    assert "4 page(s)" in error(client.get(f"/v1/images/{image}?page=4"))
