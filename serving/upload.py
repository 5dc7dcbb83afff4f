"""`POST /v1/ocr` and `POST /v1/captions`: images in, one answer each out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from redpencil import asgi
from redpencil.errors import RedpencilError
from redpencil.types import Prediction, Task
from serving.body import parse
from serving.engine import Engine, whole
from serving.models import Models
from serving.protocol import (
    BODIES,
    OPTIONS,
    CaptionAnswer,
    ErrorAnswer,
    ManyAnswer,
    ManyCaptions,
    OcrAnswer,
    answer,
    schema_of,
    to_json,
)

log = logging.getLogger(__name__)
router = APIRouter()
T = TypeVar("T")

BODY_S = 120  # 32 MiB at 2 Mbit/s
SMALL_BODY = 32 * 1024  # taken apart in the event loop; what is larger in a thread
FAILURES: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorAnswer} for code in (400, 401, 404, 413, 415, 422, 429, 500, 503)
}
SOME_FAILED = "several images, of which some failed"


def _documented(task: Task, one: Any, many: Any) -> dict[str, Any]:
    answers = {200: {"model": one | many}, 207: {"model": many, "description": SOME_FAILED}}
    return {"responses": answers | FAILURES, "openapi_extra": _taken(task)}


def _taken(task: Task) -> dict[str, Any]:
    options = OPTIONS[task].model_json_schema()["properties"]
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = {"schema": {"type": "object", "properties": {"file": files, **options}}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    content: dict[str, Any] = dict.fromkeys(
        ("image/*", "application/pdf", "application/octet-stream"), binary
    )
    content |= {"multipart/form-data": form, "application/json": {"schema": schema_of(BODIES[task])}}
    query = [
        {"name": name, "in": "query", "schema": schema, "description": schema.get("description", "")}
        for name, schema in options.items()
    ]
    key = {"name": "X-Client-Key", "in": "header", "schema": {"type": "string"}}
    return {"requestBody": {"required": True, "content": content}, "parameters": [*query, key]}


@router.post("/v1/ocr", **_documented(Task.OCR, OcrAnswer, ManyAnswer))
async def ocr(request: Request) -> Response:
    """Read the text of images: one answer for one image, {"results": [...]} for several.

    The answer of every image is on disk before it is sent, so its `prediction_id` can be
    corrected from then on. Of several images each fails for itself: its place in `results`
    then holds {"error": ...}, and the status is 207.
    """
    return await _read(request, models_of(request).ocr)


@router.post("/v1/captions", **_documented(Task.CAPTION, CaptionAnswer, ManyCaptions))
async def captions(request: Request) -> Response:
    """Say in words what images show: one answer for one image, {"results": [...]} for several.

    Every page is one block, the whole image: name it (`p0-b0`) to correct the caption. All else is
    as in POST /v1/ocr. Without a caption model this answers 503, and says how to get one.
    """
    return await _read(request, models_of(request).captions)


async def _read(request: Request, engine: Engine) -> Response:
    note(request, engine)
    with engine.admission.body(length_of(request)):
        sent = (
            request.headers.get("content-type", ""),
            request.query_params,
            asgi.as_sent(request.headers.get("x-client-key", "")),
            await received(request),
        )
        asked = await taken_apart(request, sent[-1], parse, engine.task, *sent)
        outcomes = await engine.read(asked, asgi.request_id_of(request.scope))
    return _response(request, outcomes)


async def received(request: Request) -> bytes:
    """The whole body; 408 where it does not come, so that silent clients hold no place for long."""
    try:
        async with asyncio.timeout(BODY_S):
            return await request.body()
    except TimeoutError as exc:
        raise HTTPException(408, f"the body did not arrive within {BODY_S} s") from exc


def models_of(request: Request) -> Models:
    models: Models = request.app.state.models
    return models


def note(request: Request, engine: Engine) -> None:
    """What fails from here on counts as this model's."""
    request.state.model = engine.model


def failed(request: Request, exc: BaseException) -> None:
    """Count an error, as its model's where the request has come so far."""
    models_of(request).metrics.failed(getattr(request.state, "model", ""), asgi.kind_of(exc))


def length_of(request: Request) -> int | None:
    """What the body's length is said to be; `asgi.Edge` has seen that it is a number."""
    length = request.headers.get("content-length")
    return None if length is None else int(length)


async def taken_apart(request: Request, body: bytes, how: Callable[..., T], *args: object) -> T:
    """`how(*args)`, here for a small body, for a large one in a thread."""
    small = len(body) <= SMALL_BODY
    return how(*args) if small else await models_of(request).intake.lane().run(how, *args)


def _response(request: Request, outcomes: Sequence[Prediction | BaseException]) -> Response:
    read = [o for o in outcomes if isinstance(o, Prediction)]
    if len(outcomes) == 1:
        return told(answer(whole(outcomes[0])), read)
    results = [answer(o) if isinstance(o, Prediction) else _problem(request, o) for o in outcomes]
    return told({"results": results}, read, 200 if len(read) == len(outcomes) else 207)


def _problem(request: Request, exc: BaseException) -> dict[str, Any]:
    failed(request, exc)
    if not isinstance(exc, RedpencilError):
        log.error("request %s: an image failed", asgi.request_id_of(request.scope), exc_info=exc)
    return asgi.error_body(exc, asgi.request_id_of(request.scope))[2]


def told(body: dict[str, Any], predictions: Sequence[Prediction], status: int = 200) -> Response:
    """A JSON response whose headers name who read."""
    headers = {}
    if predictions:
        headers["X-Model-Version"] = ", ".join(sorted({p.version for p in predictions}))
        headers["X-Model-Variant"] = ", ".join(sorted({p.variant.value for p in predictions}))
    return Response(to_json(body), status, headers, "application/json")
