"""What every HTTP door of Redpencil does alike: request ids, keys, a body limit, one error shape.

Plain ASGI, so it costs microseconds and fits any framework. In a FastAPI app:

    for kind in (RedpencilError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, asgi.handle)
    app.add_middleware(asgi.Edge, keys=settings.keys(), max_body=settings.max_upload_bytes)
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from redpencil import errors

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)

STATUS: dict[type[BaseException], int] = {
    errors.Malformed: 400,
    errors.Unauthorized: 401,
    errors.BadImage: 422,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.BadInput: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Refused: 409,
    errors.Busy: 429,
    errors.NotReady: 503,
}
REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
LONGEST_LENGTH = 20  # digits of Content-Length
OPEN_PATHS = frozenset({"/health", "/v2/health/live", "/v2/health/ready"})
DESCRIBED = frozenset({"/docs", "/openapi.json", "/static-offline-docs/"})
"""What an API tells of itself, to a browser too, which has no key before it was typed in there."""


def error_body(exc: BaseException, request_id: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, extra headers and JSON body that tell a client about any error.

    Knows Redpencil's own errors, and by their shape the validation and HTTP errors of Starlette
    and FastAPI. Whatever else is an internal error, whose text stays in the log.
    """
    status, kind, message = _described(exc)
    headers = {str(k).lower(): str(v) for k, v in (getattr(exc, "headers", None) or {}).items()}
    if (retry := getattr(exc, "retry_after_s", None)) is not None:
        headers["retry-after"] = str(max(1, -int(-retry // 1)))
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return status, headers, {"error": {"type": kind, "message": message, "request_id": request_id}}


def kind_of(exc: BaseException) -> str:
    """The `type` that a client is told, for counting."""
    return _described(exc)[1]


def _described(exc: BaseException) -> tuple[int, str, str]:
    if isinstance(exc, errors.RedpencilError):
        status = next((STATUS[c] for c in type(exc).__mro__ if c in STATUS), 500)
        return status, _snake(type(exc).__name__), str(exc)
    if isinstance(code := getattr(exc, "status_code", None), int):
        return code, _snake(HTTPStatus(code).phrase), str(getattr(exc, "detail", ""))
    if callable(listed := getattr(exc, "errors", None)):
        return _invalid(listed())
    return 500, "internal_error", "something went wrong here; the server's log has it under this request id"


def _invalid(problems: list[dict[str, Any]]) -> tuple[int, str, str]:
    words = "; ".join(f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in problems[:5])
    broken = any(e.get("type") == "json_invalid" for e in problems)
    return (400, "malformed", words) if broken else (422, "bad_input", words)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[ -]+", "_", name).lower()


class Answer:
    """A JSON answer as a plain ASGI app; Starlette accepts it where it expects a response."""

    def __init__(self, status: int, headers: dict[str, str], body: dict[str, Any]) -> None:
        self.status = status
        self.body = json.dumps(body, ensure_ascii=False).encode()
        length = {"content-type": "application/json", "content-length": str(len(self.body))}
        self.headers = [(k.encode(), v.encode("latin-1")) for k, v in {**headers, **length}.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


async def handle(request: Any, exc: BaseException) -> Answer:
    """The one exception handler: gives any error its status and the common shape."""
    return Answer(*error_body(exc, request_id_of(request.scope)))


def as_sent(header: str) -> str:
    """A header in UTF-8, as most clients write it, though HTTP reads it as Latin-1."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return header


def request_id_of(scope: Scope) -> str:
    """The id of this request, as `Edge` found or made it."""
    return str(scope.get("state", {}).get("request_id", ""))


class Edge:
    """Middleware: echoes or makes X-Request-ID, asks for a key, limits the body, shapes errors.

    `keys` empty means open to all. `open_paths` need no key (exact paths, or prefixes that end in
    a slash). A body over `max_body` bytes answers 413, whether it was announced or just kept coming.
    Without `echo` the server around the app is trusted to echo the request id.
    """

    def __init__(
        self,
        app: App,
        keys: frozenset[str] = frozenset(),
        max_body: int = 32 * 2**20,
        open_paths: frozenset[str] = OPEN_PATHS,
        echo: bool = True,
    ) -> None:
        self.app = app
        self.keys = tuple(k.encode() for k in keys)
        self.max_body, self.echo = max_body, echo
        self.exact = frozenset(p for p in open_paths if not p.endswith("/") or p == "/")
        self.prefixes = tuple(p for p in open_paths if p.endswith("/") and p != "/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = dict(scope["headers"])
        request_id = _request_id(given.get(b"x-request-id", b""))
        scope["state"] = {**(scope.get("state") or {}), "request_id": request_id}
        exchange = _Exchange(receive, send, request_id, self.max_body, self.echo)
        try:
            self._admit(scope, given)
            await self.app(scope, exchange.receive, exchange.send)
        except errors.RedpencilError as exc:
            await exchange.fail(exc)
        except Exception as exc:
            log.exception("request %s: %s %s failed", request_id, scope["method"], scope["path"])
            await exchange.fail(exc)

    def _admit(self, scope: Scope, given: dict[bytes, bytes]) -> None:
        path = scope["path"]
        if "\0" in path or b"%00" in scope.get("query_string", b""):
            raise errors.Malformed("the address contains the character U+0000, which nothing here has")
        if self.keys and not (path in self.exact or (self.prefixes and path.startswith(self.prefixes))):
            self._check_key(given.get(b"authorization", b""))
        length = given.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > LONGEST_LENGTH:
            raise errors.Malformed("the Content-Length header is not a number")
        if int(length) > self.max_body:
            raise _too_large(self.max_body)

    def _check_key(self, authorization: bytes) -> None:
        scheme, _, key = authorization.partition(b" ")
        known = [hmac.compare_digest(key.strip(), k) for k in self.keys]
        if scheme.lower() != b"bearer" or not any(known):
            raise errors.Unauthorized("send a valid key in the header: Authorization: Bearer KEY")


class _Exchange:
    """One request and its response, watched: counts the body, adds the id, says a late 413."""

    def __init__(self, receive: Receive, send: Send, request_id: str, max_body: int, echo: bool) -> None:
        self._receive, self._send = receive, send
        self.request_id, self.max_body, self.echo = request_id, max_body, echo
        self.bytes_in, self.started, self.failed = 0, False, False

    async def receive(self) -> Message:
        message = await self._receive()
        self.bytes_in += len(message.get("body", b""))
        if self.bytes_in > self.max_body:
            raise _too_large(self.max_body)
        return message

    async def send(self, message: Message) -> None:
        if self.failed:
            return  # what a framework says about a request that was already answered here
        if self.bytes_in > self.max_body and not self.started:
            return await self.fail(_too_large(self.max_body))  # it may have become a 400 inside
        if message["type"] == "http.response.start":
            self.started = True
            if self.echo:
                headers = [*message.get("headers", []), (b"x-request-id", self.request_id.encode())]
                message = {**message, "headers": headers}
        await self._send(message)

    async def fail(self, exc: BaseException) -> None:
        """Answer with the error; where an answer has begun, break it off instead."""
        if self.started:
            raise exc
        self.bytes_in = 0
        await Answer(*error_body(exc, self.request_id))({}, self.receive, self.send)
        self.failed = True


def _request_id(given: bytes) -> str:
    return given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _too_large(limit: int) -> errors.TooLarge:
    return errors.TooLarge(
        f"the request body is larger than {limit} bytes (REDPENCIL_MAX_UPLOAD_BYTES); send less, or fewer "
        "images at once"
    )
