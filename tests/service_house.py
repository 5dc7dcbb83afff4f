"""The services around a fresh SQLite database, a folder of blobs and a registry in memory."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, cast

import cv2
import httpx
import store_parts
import tiny_bundle
from fake_registry import FakeRegistry
from fastapi import FastAPI

from redpencil import checkpoints, snapshot
from redpencil.ids import new_id
from redpencil.registry import Registry
from redpencil.settings import Settings
from redpencil.types import (
    Block,
    Image,
    ModelVersion,
    Outcome,
    Page,
    Precision,
    Prediction,
    Run,
    RunState,
    Task,
    Variant,
    Verdict,
)
from services import promote
from services.app import assemble, furnish
from services.house import House
from services.schedule import queue

MODEL = "ocr"
CAPTION = "caption"
APPS: dict[tuple[str, int], FastAPI | None] = {}


class Client:
    """Calls an app in this process, one request at a time."""

    def __init__(self, app: Any, headers: dict[str, str]) -> None:
        self.app, self.headers = app, headers

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return asyncio.run(self._request(method, path, arguments))

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("POST", path, **arguments)

    async def _request(self, method: str, path: str, arguments: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=self.headers
        ) as http:
            return await http.request(method, path, **arguments)


class World:
    """What a test of the services needs: a house that stands still, and things to put into it."""

    registry: Any

    def __init__(self, home: Path, registry: Any = None, **settings: Any) -> None:
        home.mkdir(parents=True, exist_ok=True)
        store_parts.new_database(home)
        self.registry = registry or FakeRegistry()
        self.settings = Settings(home=home, **settings)
        self.house: House = furnish(self.settings, cast(Registry, self.registry))
        self.store = self.house.store

    def client(self, **headers: str) -> Client:
        app = APPS.setdefault((self.settings.api_keys, self.settings.max_upload_bytes), None) or self._app()
        app.state.house = self.house
        return Client(app, {"x-author": "ada", **headers})

    def _app(self) -> FastAPI:
        """One app for all houses with the same edge: routes and their schemas take long to build."""
        app = assemble(self.house, watching=False)
        APPS[self.settings.api_keys, self.settings.max_upload_bytes] = app
        return app

    def tick(self, model: str = MODEL) -> Any:
        return self.house.reconciler.tick(model)

    def version(
        self, version: str, outcome: Outcome | None = Outcome.PASSED, reason: str = "", model: str = MODEL
    ) -> ModelVersion:
        """A version that is registered, and judged unless told otherwise; what it holds is no real bundle."""
        kept = self.house.blobs.put(f"bundle of version {version}".encode())
        made = ModelVersion(model, version, kept, time.time())
        self.store.versions.add(made)
        if isinstance(self.registry, FakeRegistry):
            self.registry.add(model, version)
        if outcome is not None:
            self.judge(version, outcome, reason, model)
        return made

    def judge(self, version: str, outcome: Outcome, reason: str = "", model: str = MODEL) -> None:
        said, beside = (reason,) if reason else (), self.store.serving.get(model).champion or ""
        verdict = Verdict(outcome, said, Precision.INT8, {}, {}, version, beside, time.time())
        self.store.versions.put_verdict(model, version, verdict)

    def serve(self, *versions: str, model: str = MODEL) -> None:
        """Make passed versions champion, one after the other."""
        for version in versions:
            self.version(version, model=model)
            self.registry.aliases[model, "champion"] = version
            self.tick(model)

    def image(self, text: str = "hello", group: str | None = None) -> Image:
        data = cv2.imencode(".png", tiny_bundle.paint(text))[1].tobytes()
        sha256 = self.house.blobs.put(data)
        image = Image(sha256, group or sha256, "image/png", time.time())
        return self.store.images.add_many([image])[0]

    def prediction(
        self, *lines: str, version: str = "1", image: Image | None = None, **fields: Any
    ) -> Prediction:
        """An answer with one block per line, each a pixel lower and surer than the one before."""
        shown = image or self.image(lines[0] if lines else "x")
        height, width = self.house.pictures.page(shown.sha256, 0).shape[:2]
        right, bottom = float(width), float(height)
        places = [((0.0, top), (right, top), (right, bottom), (0.0, bottom)) for top in map(float, range(99))]
        blocks = tuple(
            Block(f"p0-b{n}", 0, places[n], text, 0.5 + 0.1 * n, (0.5,) * len(text))
            for n, text in enumerate(lines)
        )
        made = Prediction(
            id=new_id("pred"),
            created_at=time.time(),
            image=shown.sha256,
            task=fields.pop("task", Task.OCR),
            model=fields.pop("model", MODEL),
            version=version,
            variant=fields.pop("variant", Variant.CHAMPION),
            pages=(Page(0, width, height),),
            blocks=blocks,
            latency_ms=5.0,
            **fields,
        )
        self.store.predictions.add_many([(shown, made)])
        return made


def error(answer: httpx.Response) -> str:
    """The words of an error answer."""
    return str(answer.json()["error"]["message"])


def post(client: Client, body: Any, key: str | None = None) -> Any:
    """State corrections, under an idempotency key if one is given."""
    headers = {"idempotency-key": key} if key else {}
    return client.post("/v1/corrections", json=body, headers=headers)


def correct(client: Client, prediction: Any, text: str, **fields: Any) -> None:
    """Say over HTTP what the prediction should have read."""
    body = {"prediction_id": prediction.id, "text": text} | fields
    assert client.post("/v1/corrections", json=body).status_code == 201


def caption(world: World, text: str, **fields: Any) -> Prediction:
    """An answer to POST /v1/captions: one block, the whole image."""
    return world.prediction(text, task=Task.CAPTION, model=CAPTION, **fields)


def ended_with_checkpoints(world: World, params: dict[str, Any], model: str = CAPTION) -> Run:
    """A run that kept its epochs 5 and 10; of another one that was being written a part is there."""
    taken = snapshot.take(world.store, world.settings.task_of(model)).id
    run = queue(world.store, model, "catr", "api", params, taken)
    folder = world.settings.home / "checkpoints" / run.id
    folder.mkdir(parents=True)
    for epoch in (10, 5):
        file = folder / checkpoints.file(epoch)
        file.write_bytes(b"weights")
        said = {"recipe": "catr", "epoch": epoch, "scores": {"loss": 2.5, "val_cider_d": epoch / 8}}
        file.with_suffix(".json").write_text(json.dumps(said))
    (folder / checkpoints.file(15)).with_suffix(".json").write_text("{}")
    world.store.runs.claim_next(model)
    return world.store.runs.update(run.id, state=RunState.SUCCEEDED, version="1")


def point(world: World, version: str) -> None:
    """A person moves the alias in MLflow."""
    world.registry.aliases[MODEL, "champion"] = version


def champion(world: World) -> str | None:
    return world.store.serving.get(MODEL).champion


def alias(world: World) -> str | None:
    return world.registry.aliases.get((MODEL, "champion"))


def actions(world: World) -> list[str]:
    """What the ledger says was done, the oldest first."""
    return [e.action for e in promote.entries(world.store, MODEL)][::-1]


def last(world: World, action: str) -> Any:
    return next(e for e in promote.entries(world.store, MODEL) if e.action == action)
