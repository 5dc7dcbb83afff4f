"""The prediction API as a FastAPI app, built by one function; it runs with and without Ray Serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import Response

from redpencil import asgi
from redpencil.errors import RedpencilError
from redpencil.origin import SameOrigin, names_of
from redpencil.settings import Settings
from serving import chat, infer_v2, trace, upload
from serving.engine import Engine
from serving.models import Models, opened_store
from serving.protocol import ErrorAnswer, KeptAnswer, kept
from serving.reader import LineFinder


def build(settings: Settings, finder: LineFinder, echo_request_id: bool = True) -> FastAPI:
    """The app; its lifespan opens the models, and returns from starting once the champion is warm."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(settings, finder) as app.state.models:
            yield

    keys = settings.keys()
    app = FastAPIOffline(
        title="Redpencil serving",
        version="1",
        lifespan=lifespan,
        redoc_url=None,
        description="Images in, their text or captions out. Corrections go to the services.",
        dependencies=[Depends(HTTPBearer(auto_error=False))] if keys else [],  # /docs asks for a key
    )
    for kind in (RedpencilError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _handle)
    if spans := trace.tracer(settings.otlp_endpoint):
        app.add_middleware(trace.Traced, tracer=spans)
    names = names_of(settings, settings.serving)
    app.add_middleware(SameOrigin, names=names, setting="REDPENCIL_SERVING_URL", open_paths=asgi.OPEN_PATHS)
    app.add_middleware(
        asgi.Edge,
        keys=keys,
        max_body=settings.max_upload_bytes,
        open_paths=asgi.OPEN_PATHS | asgi.DESCRIBED,
        echo=echo_request_id,
    )
    app.include_router(upload.router)
    _add_rest(app)
    for router in (chat.router, infer_v2.router):
        app.include_router(router)
    return app


@asynccontextmanager
async def opened(settings: Settings, finder: LineFinder) -> AsyncIterator[Models]:
    """The models, the champion of OCR warm."""
    store = await asyncio.to_thread(opened_store, settings)
    models = Models(settings, finder, store)
    await models.start()
    yield models
    await models.close()


async def _handle(request: Request, exc: Exception) -> Any:
    upload.failed(request, exc)
    return await asgi.handle(request, exc)


def _add_rest(app: FastAPI) -> None:
    @app.get(
        "/v1/predictions/{prediction_id}", responses={200: {"model": KeptAnswer}, 404: {"model": ErrorAnswer}}
    )
    async def prediction(request: Request, prediction_id: str) -> Response:
        """An answer given earlier, as it was given."""
        found = await upload.models_of(request).prediction(prediction_id)
        return upload.told(kept(found), [found])

    @app.get("/health", responses={503: {"model": ErrorAnswer}})
    async def health(request: Request) -> dict[str, Any]:
        """Ready: the OCR champion is loaded and warm. 503 before, saying why.

        `captions` tells the same of the caption model, on which nothing else depends.
        """
        models = upload.models_of(request)
        models.ocr.require_ready()
        return {"status": "ready", **_standing(models.ocr), "captions": _captions(models.captions)}

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """For Prometheus; of the one replica that answers."""
        return Response(upload.models_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _captions(engine: Engine) -> dict[str, Any]:
    why = engine.why_not_ready()
    return {"status": "not_ready" if why else "ready", **_standing(engine), "why": why}


def _standing(engine: Engine) -> dict[str, Any]:
    state = engine.state.state
    return {
        "model": state.model,
        "champion": state.champion,
        "challenger": state.challenger,
        "previous": state.previous,
        "revision": state.revision,
        "waiting": engine.admission.waiting,
        "error": engine.follower.error,
    }
