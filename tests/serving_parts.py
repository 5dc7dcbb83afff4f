"""A home with registered tiny bundles, for tests of serving. Import it by `import serving_parts`."""

from __future__ import annotations

import asyncio
import atexit
import base64
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import tiny_bundle
from fastapi import FastAPI

from redpencil import bundle
from redpencil.blobs import Blobs
from redpencil.ids import new_id
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import LedgerEntry, ModelVersion, Polygon, ServingState
from serving import api
from serving.models import Models

Client = httpx.AsyncClient
MODEL = "ocr"
CAPTION = "caption"
LINE_PX = tiny_bundle.paint("a").shape[0]
MISREAD = {"1": {}, "2": {"e": "c"}, "3": {"a": "o"}, "4": {"l": "i"}}


class BandFinder:
    """Knows pages of painted lines, one below the other: each band as high as a line is one."""

    def is_single_line(self, page: np.ndarray) -> bool:
        return page.shape[0] == LINE_PX

    def find_lines(self, page: np.ndarray) -> Sequence[Polygon]:
        height, width = page.shape[:2]
        return [
            (
                (0.0, float(y)),
                (float(width), float(y)),
                (float(width), float(y + LINE_PX)),
                (0.0, float(y + LINE_PX)),
            )
            for y in range(0, height, LINE_PX)
        ]


def png(*lines: str) -> bytes:
    """A line, or a page of several, as a PNG file."""
    painted = [tiny_bundle.paint(line) for line in lines]
    width = max(p.shape[1] for p in painted)
    padded = [np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in painted]
    return cv2.imencode(".png", np.concatenate(padded))[1].tobytes()


@cache
def _template() -> Path:
    """A home made once per process, to be copied."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    settings = Settings(home=folder)
    blobs = Blobs.open(settings.blobs)
    with Store.open(settings.database, migrate=True) as store:
        for version, misread in MISREAD.items():
            made = folder / "made" / version
            tiny_bundle.build(made, misread=misread)
            kept = bundle.put(made, blobs)
            for model in (MODEL, CAPTION):
                store.versions.add(ModelVersion(model, version, kept, time.time()))
    blobs.close()
    return folder


class Home:
    """A folder with database and blobs, versions 1..4 of both models, and who serves among them.

    The caption model reads painted lines too: any decoder may serve any task.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        chosen = {"home": folder, "model": MODEL, "threads": 2, "poll_s": 0.05, **settings}
        self.settings = Settings.model_validate(chosen)
        shutil.copytree(_template(), folder, dirs_exist_ok=True)
        self.store = Store.open(self.settings.database)
        self.blobs = Blobs.open(self.settings.blobs)

    def serve(self, champion: str | None, model: str = MODEL, **rest: object) -> ServingState:
        """Change the desired state."""
        before = self.store.serving.get(model)
        wanted = {"model": model, "revision": before.revision + 1, "champion": champion, **rest}
        entry = LedgerEntry(
            new_id("led"), time.time(), "test", "promote", model, before.champion, champion, ""
        )
        return self.store.serving.change(ServingState(**wanted), entry)

    def close(self) -> None:
        self.store.close()
        self.blobs.close()


async def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.001)


def serving(home: Home, work: Callable[[httpx.AsyncClient, Models], Awaitable[None]]) -> None:
    """Run the app of this home in process, and the work against it."""

    async def run() -> None:
        app = _app(home.settings.model_copy(update={"home": Path()}))
        async with api.opened(home.settings, BandFinder()) as app.state.models:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                await work(client, app.state.models)

    asyncio.run(run())


@cache
def _app(settings: Settings) -> FastAPI:
    """One for all homes that are set alike: routes and their schemas take long to build."""
    return api.build(settings, BandFinder())


def with_captions(home: Home, work: Callable[..., Any]) -> None:
    """The caption model is loaded after OCR, beside the first requests; wait for it, then work."""

    async def waited(client: Client, models: Models) -> None:
        await until(lambda: models.captions.why_not_ready() is None)
        await work(client, models)

    serving(home, waited)


def metric(text: str, name: str, **labels: str) -> float:
    """The value of the one line of /metrics with these labels."""
    wanted = [f'{k}="{v}"' for k, v in labels.items()]
    lines = [x for x in text.splitlines() if x.startswith(name) and all(w in x for w in wanted)]
    return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{b64(data)}"


def chat(model: str, *images: bytes, **more: Any) -> dict[str, Any]:
    """What OpenAI's clients send to ask about images."""
    parts = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in images]
    said = {"role": "user", "content": [{"type": "text", "text": "What does it say?"}, *parts]}
    return {"model": model, "messages": [{"role": "system", "content": "You are kind."}, said], **more}


class Watched(np.ndarray):
    """An array of which one can know that it is gone."""
