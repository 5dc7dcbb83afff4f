"""The prediction API as a FastAPI app, built by one function; it runs with and without Ray Serve."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import Response

from redpencil import asgi
from redpencil.errors import RedpencilError
from redpencil.settings import Settings
from redpencil.types import Prediction
from serving import infer_v2, trace
from serving.body import Asked, parse
from serving.engine import Engine, require_ready, whole
from serving.protocol import (
    ErrorAnswer,
    KeptAnswer,
    ManyAnswer,
    OcrAnswer,
    OcrBody,
    Options,
    answer,
    kept,
    schema_of,
    to_json,
)
from serving.reader import LineFinder

log = logging.getLogger(__name__)

SMALL_BODY = 32 * 1024  # taken apart in the event loop; what is larger goes to the pool
FAILURES: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorAnswer} for code in (400, 401, 404, 413, 415, 422, 429, 500, 503)
}


def build(settings: Settings, finder: LineFinder, echo_request_id: bool = True) -> FastAPI:
    """The app; its lifespan opens the engine, and returns from starting once the champion is warm."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.engine = engine = Engine(settings, finder)
        await engine.start()
        yield
        await engine.close()

    app = FastAPI(
        title="Redpencil serving", version="1", lifespan=lifespan, redoc_url=None, description=__doc__
    )
    for kind in (RedpencilError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _handle)
    if spans := trace.tracer(settings.otlp_endpoint):
        app.add_middleware(trace.Traced, tracer=spans)
    app.add_middleware(
        asgi.Edge, keys=settings.keys(), max_body=settings.max_upload_bytes, echo=echo_request_id
    )
    _add_ocr(app, settings.max_upload_bytes)
    _add_rest(app)
    app.include_router(infer_v2.router)
    return app


async def _handle(request: Request, exc: Exception) -> Any:
    request.app.state.engine.metrics.failed(asgi.kind_of(exc))
    return await asgi.handle(request, exc)


def _add_ocr(app: FastAPI, max_body: int) -> None:
    many = {"model": ManyAnswer, "description": "several images, of which some failed"}

    @app.post(
        "/v1/ocr",
        responses={200: {"model": OcrAnswer | ManyAnswer}, 207: many, **FAILURES},
        openapi_extra=_ASKED,
    )
    async def ocr(request: Request) -> Response:
        """Read the text of images: one answer for one image, {"results": [...]} for several.

        The answer of every image is on disk before it is sent, so its `prediction_id` can be
        corrected from then on. Of several images each fails for itself: its place in `results`
        then holds {"error": ...}, and the status is 207.
        """
        engine: Engine = request.app.state.engine
        length = int(request.headers.get("content-length", max_body // 8))  # unsaid: a guess
        with engine.admission.body(length):
            asked = await _asked(request, engine)
            outcomes = await engine.ocr(asked, asgi.request_id_of(request.scope))
        return _response(request, outcomes)


async def _asked(request: Request, engine: Engine) -> Asked:
    body = await request.body()
    told = (
        request.headers.get("content-type", ""),
        request.query_params,
        request.headers.get("x-client-key", ""),
        body,
    )
    return parse(*told) if len(body) <= SMALL_BODY else await engine.pool.lane().run(parse, *told)


def _response(request: Request, outcomes: Sequence[Prediction | BaseException]) -> Response:
    read = [o for o in outcomes if isinstance(o, Prediction)]
    if len(outcomes) == 1:
        return _json(answer(whole(outcomes[0])), 200, read)
    results = [answer(o) if isinstance(o, Prediction) else _problem(request, o) for o in outcomes]
    return _json({"results": results}, 200 if len(read) == len(outcomes) else 207, read)


def _problem(request: Request, exc: BaseException) -> dict[str, Any]:
    request.app.state.engine.metrics.failed(asgi.kind_of(exc))
    if not isinstance(exc, RedpencilError):
        log.error("request %s: an image failed", asgi.request_id_of(request.scope), exc_info=exc)
    return asgi.error_body(exc, asgi.request_id_of(request.scope))[2]


def _json(body: dict[str, Any], status: int, predictions: Sequence[Prediction]) -> Response:
    headers = {}
    if predictions:
        headers["X-Model-Version"] = ", ".join(sorted({p.version for p in predictions}))
        headers["X-Model-Variant"] = ", ".join(sorted({p.variant.value for p in predictions}))
    return Response(to_json(body), status, headers, "application/json")


def _add_rest(app: FastAPI) -> None:
    @app.get(
        "/v1/predictions/{prediction_id}", responses={200: {"model": KeptAnswer}, 404: {"model": ErrorAnswer}}
    )
    async def prediction(request: Request, prediction_id: str) -> Response:
        """An answer given earlier, as it was given."""
        found = await request.app.state.engine.prediction(prediction_id)
        return _json(kept(found), 200, [found])

    @app.get("/health", responses={503: {"model": ErrorAnswer}})
    async def health(request: Request) -> dict[str, Any]:
        """Ready: the champion is loaded and warm. 503 before, saying why."""
        engine: Engine = request.app.state.engine
        require_ready(engine)
        state = engine.state.state
        return {
            "status": "ready",
            "model": state.model,
            "champion": state.champion,
            "challenger": state.challenger,
            "previous": state.previous,
            "revision": state.revision,
            "waiting": engine.admission.waiting,
            "error": engine.follower.error,
        }

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """For Prometheus; of the one replica that answers."""
        return Response(request.app.state.engine.metrics.text(), media_type=CONTENT_TYPE_LATEST)


_FILES = {
    "type": "object",
    "properties": {
        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
        **Options.model_json_schema()["properties"],
    },
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_ASKED: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FILES},
            "image/*": _BINARY,
            "application/pdf": _BINARY,
            "application/octet-stream": _BINARY,
            "application/json": {"schema": schema_of(OcrBody)},
        },
    },
    "parameters": [
        {"name": name, "in": "query", "schema": schema, "description": schema.get("description", "")}
        for name, schema in Options.model_json_schema()["properties"].items()
    ]
    + [{"name": "X-Client-Key", "in": "header", "schema": {"type": "string"}}],
}
