"""The conventions at the edge hold for any app: ids, keys, limits, one error shape."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from redpencil import asgi, errors


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str


def make_app(keys: frozenset[str] = frozenset(), max_body: int = 1000) -> FastAPI:
    app = FastAPI()
    for kind in (errors.RedpencilError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, asgi.handle)
    app.add_middleware(asgi.Edge, keys=keys, max_body=max_body)

    @app.post("/echo")
    async def echo(body: Body) -> dict:
        return {"text": body.text}

    @app.post("/raw")
    async def raw(request: Request) -> dict:
        return {"bytes": len(await request.body()), "id": request.state.request_id}

    @app.get("/raise/{name}")
    async def fail(name: str) -> None:
        if name == "Busy":
            raise errors.Busy("too much at once", retry_after_s=2.2)
        raise getattr(errors, name)("in words") if hasattr(errors, name) else RuntimeError("secret detail")

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ok"}

    return app


def ask(app: FastAPI, method: str, path: str, **kwargs: object) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **kwargs)

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("Malformed", 400, "malformed"),
        ("BadInput", 422, "bad_input"),
        ("BadImage", 422, "bad_image"),
        ("TooLarge", 413, "too_large"),
        ("UnsupportedMedia", 415, "unsupported_media"),
        ("NotFound", 404, "not_found"),
        ("Conflict", 409, "conflict"),
        ("Refused", 409, "refused"),
        ("NotReady", 503, "not_ready"),
        ("Damaged", 500, "damaged"),
    ],
)
def test_every_error_has_its_status_and_the_one_shape(name: str, status: int, kind: str) -> None:
    answer = ask(make_app(), "GET", f"/raise/{name}", headers={"X-Request-ID": "abc-1"})
    assert answer.status_code == status
    assert answer.json() == {"error": {"type": kind, "message": "in words", "request_id": "abc-1"}}
    assert answer.headers["x-request-id"] == "abc-1"
    assert ("retry-after" in answer.headers) == (name == "NotReady")


def test_busy_says_when_to_come_back_in_whole_seconds() -> None:
    answer = ask(make_app(), "GET", "/raise/Busy")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")


def test_an_unexpected_error_keeps_its_details_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    answer = ask(make_app(), "GET", "/raise/Surprise", headers={"X-Request-ID": "abc-2"})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "internal_error"
    assert "secret detail" not in answer.text
    assert "abc-2" in caplog.text
    assert "secret detail" in caplog.text


@pytest.mark.parametrize("given", ["", "with space", "x" * 129, "caf\xe9"])
def test_a_missing_or_odd_request_id_is_replaced_by_a_fresh_one(given: str) -> None:
    headers = {b"X-Request-ID": given.encode("latin-1")} if given else {}
    first, second = (ask(make_app(), "POST", "/raw", headers=headers) for _ in range(2))
    assert first.headers["x-request-id"] == first.json()["id"] != given
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_frameworks_own_errors_take_the_same_shape() -> None:
    unknown = ask(make_app(), "GET", "/nowhere")
    wrong_method = ask(make_app(), "GET", "/raw")
    broken = ask(make_app(), "POST", "/echo", content=b"{", headers={"Content-Type": "application/json"})
    extra = ask(make_app(), "POST", "/echo", json={"text": "a", "colour": "red"})
    kinds = [(a.status_code, a.json()["error"]["type"]) for a in (unknown, wrong_method, broken, extra)]
    assert kinds == [(404, "not_found"), (405, "method_not_allowed"), (400, "malformed"), (422, "bad_input")]
    assert "colour" in extra.json()["error"]["message"]
    assert wrong_method.headers["allow"] == "POST"


def test_a_body_over_the_limit_is_413_whether_announced_or_streamed() -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 100

    announced = ask(make_app(), "POST", "/raw", content=b"x" * 1001)
    streamed = ask(make_app(), "POST", "/raw", content=stream())
    typed = ask(make_app(), "POST", "/echo", content=stream(), headers={"Content-Type": "application/json"})
    for answer in (announced, streamed, typed):
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "too_large"
        assert len(answer.headers.get_list("x-request-id")) == 1
    assert ask(make_app(), "POST", "/raw", content=b"x" * 1000).json()["bytes"] == 1000


def test_with_keys_only_health_is_open() -> None:
    app = make_app(keys=frozenset({"s3cret", "other"}))
    refused = ask(app, "POST", "/raw")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.json()["error"]["type"] == "unauthorized"
    for wrong in ("Bearer nope", "Basic s3cret", "Bearer ", "s3cret"):
        assert ask(app, "POST", "/raw", headers={"Authorization": wrong}).status_code == 401
    assert ask(app, "POST", "/raw", headers={"Authorization": "Bearer other"}).status_code == 200
    assert ask(app, "GET", "/health").status_code == 200


def test_open_paths_may_be_a_whole_folder() -> None:
    async def ok(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await asgi.Answer(200, {}, {})(scope, receive, send)

    app = asgi.Edge(ok, keys=frozenset({"k"}), open_paths=frozenset({"/", "/static/"}))
    assert [ask(app, "GET", p).status_code for p in ("/", "/static/a.js", "/staticky", "/v1/x")] == [
        200,
        200,
        401,
        401,
    ]


def test_an_answer_that_breaks_after_it_began_is_cut_off_not_completed() -> None:
    async def halfway(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise errors.Damaged("gone")

    with pytest.raises(errors.Damaged):
        ask(asgi.Edge(halfway), "GET", "/")


def test_an_answer_is_valid_json_in_any_language() -> None:
    sent = []

    async def send(message: asgi.Message) -> None:
        sent.append(message)

    asyncio.run(asgi.Answer(200, {}, {"text": "ſtraße ಕನ್ನಡ"})({}, None, send))
    assert json.loads(sent[1]["body"]) == {"text": "ſtraße ಕನ್ನಡ"}


@pytest.mark.parametrize("path", ["/echo%00", "/echo?x=a%00b"])
def test_what_no_database_can_look_up_is_malformed(path: str) -> None:
    answer = ask(make_app(), "POST", path, content=b"{}")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "malformed")
