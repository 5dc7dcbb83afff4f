"""The console's pages, and uploads passed on to serving, so that a browser needs one origin only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse

from redpencil.errors import NotFound, NotReady
from services import local
from services.client import trusted
from services.house import Here

router = APIRouter()
PAGES = Path(__file__).parent / "console"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
OPEN_PATHS = frozenset({"/", "/console/"})
"""What anybody may load: pages without data. Every answer of the API needs a key where keys are set."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
GUARDS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
READ_S = 120.0
PASSED_ON = ("content-type", "x-request-id", "traceparent", "authorization", "x-client-key", "accept")
PASSED_BACK = ("content-type", "retry-after", "x-model-version", "x-model-variant")


@asynccontextmanager
async def client(app: FastAPI) -> AsyncIterator[None]:
    """The connection to serving lives as long as the app."""
    async with httpx.AsyncClient(timeout=READ_S, verify=trusted(), trust_env=False) as app.state.serving:
        yield


@router.get("/health", tags=["control"])
def health() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/", include_in_schema=False)
def index() -> Response:
    return page("index.html")


@router.get("/console/{name}", include_in_schema=False)
def page(name: str) -> Response:
    path = next((file for file in PAGES.iterdir() if file.name == name and file.suffix in KINDS), None)
    if path is None:
        raise NotFound(f"there is no page {name!r}")
    return FileResponse(path, media_type=KINDS[path.suffix], headers=GUARDS)


@router.post("/v1/ocr", tags=["predictions"])
@router.post("/v1/captions", tags=["predictions"])
async def predict(request: Request, house: Here) -> Response:
    """Passed on to serving as it is; the answer too."""
    serving: httpx.AsyncClient = request.app.state.serving
    there = local.serving(house.settings)
    url = httpx.URL(there + request.url.path, query=request.url.query.encode())
    headers = [(k, v) for k, v in request.headers.raw if k.decode("latin-1") in PASSED_ON]
    try:
        answer = await serving.post(url, content=await request.body(), headers=headers)
    except httpx.TimeoutException as error:
        words = (
            f"serving did not answer within {READ_S:.0f} s and may still be reading; see `redpencil status`"
        )
        raise NotReady(words, retry_after_s=READ_S) from error
    except httpx.TransportError as error:
        raise NotReady(f"serving at {there} does not answer; is it up?") from error
    back: dict[str, Any] = {k: v for k in PASSED_BACK if (v := answer.headers.get(k)) is not None}
    return Response(answer.content, answer.status_code, back)
