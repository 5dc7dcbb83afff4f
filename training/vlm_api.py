"""A server of adapted vision-language models behind HTTP, where vLLM's clients look for it.

No torch is needed for that: what answers is whatever has `Model`'s methods.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from redpencil import asgi
from redpencil.errors import RedpencilError
from redpencil.origin import SameOrigin
from redpencil.ports import HERE
from training.vlm_protocol import Adapters, Named, Question, Written, answer
from training.vlm_turns import Turns

WAITING = 64  # questions, as many as a replica lets wait (REDPENCIL_QUEUE_LIMIT)


class Model(Protocol):
    """What answers; its methods are called one at a time, but for `models`."""

    def models(self) -> list[dict[str, Any]]:
        """The base and what it was given, as /v1/models lists them."""

    def load(self, name: str, folder: Path, anew: bool) -> None:
        """Take in the adapters in a folder; BadInput where there are none that fit."""

    def unload(self, name: str) -> None:
        """Let go of adapters; NotFound where they are not there."""

    def write(self, question: Question) -> Written:
        """Answer; NotFound where the adapters that are named are not there."""


def build(model: Model, key: str = "", max_body: int = 32 * 2**20, waiting: int = WAITING) -> FastAPI:
    """The app; without a key it may be called by this machine's own names alone."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for kind in (RedpencilError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, asgi.handle)  # type: ignore[arg-type]
    app.add_middleware(SameOrigin, names=() if key else HERE, setting="--host", open_paths=asgi.OPEN_PATHS)
    app.add_middleware(asgi.Edge, keys=frozenset([key] if key else []), max_body=max_body)
    turns = Turns(waiting)
    _add_standing(app, model, turns)
    _add_work(app, model, turns)
    return app


def _add_standing(app: FastAPI, model: Model, turns: Turns) -> None:
    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ready", "waiting": turns.waiting}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": model.models()}


def _add_work(app: FastAPI, model: Model, turns: Turns) -> None:
    @app.post("/v1/chat/completions")
    async def complete(request: Request, asked: Question) -> dict[str, Any]:
        return answer(asked, await turns.take(request, lambda: model.write(asked)))

    @app.post("/v1/load_lora_adapter")
    async def load(request: Request, asked: Adapters) -> dict[str, str]:
        await turns.take(request, lambda: model.load(asked.lora_name, asked.lora_path, asked.load_inplace))
        return {"message": f"{asked.lora_name} is there"}

    @app.post("/v1/unload_lora_adapter")
    async def unload(request: Request, asked: Named) -> dict[str, str]:
        await turns.take(request, lambda: model.unload(asked.lora_name))
        return {"message": f"{asked.lora_name} is gone"}
