"""The services as one ASGI app: corrections, review, control, console, and their two watchers."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from redpencil import asgi
from redpencil.blobs import Blobs
from redpencil.errors import RedpencilError
from redpencil.origin import SameOrigin, names_of
from redpencil.registry import Registry
from redpencil.settings import Settings
from redpencil.store import Store
from services import control, experiments, feedback, front, metrics, models, review, runs, suspects, transfer
from services.audit import Auditor
from services.house import House
from services.judge import Judge
from services.pictures import Pictures
from services.reconcile import Reconciler
from services.scheduler import Scheduler

ROUTERS = (transfer, feedback, review, suspects, runs, models, experiments, control, metrics, front)
STOP_TIMEOUT_S = 25.0


def build(settings: Settings, registry: Registry | None = None) -> FastAPI:
    """The app with its watchers, which start and stop with it."""
    return assemble(furnish(settings, registry), watching=True)


def furnish(settings: Settings, registry: Registry | None = None) -> House:
    """Open what the services work on; makes the database where there is none."""
    settings.home.mkdir(parents=True, exist_ok=True)
    store, blobs = Store.open(settings.database, migrate=True), Blobs.open(settings.blobs)
    registry = registry or Registry(settings.mlflow)
    judge = Judge(settings.home / "logs")
    return House(
        settings=settings,
        store=store,
        blobs=blobs,
        registry=registry,
        pictures=Pictures(store, blobs, settings),
        auditor=Auditor.of(settings.home, settings.secret),
        judge=judge,
        reconciler=Reconciler(store, blobs, registry, judge, settings.models, settings.reconcile_s),
        scheduler=Scheduler(store, settings, settings.models),
    )


def assemble(house: House, watching: bool) -> FastAPI:
    """Routes and edges around a house; without `watching`, reconciler and scheduler stand still."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stop = watch(house) if watching else None
        async with front.client(app):
            yield
        if stop is not None:
            await run_in_threadpool(stop)
        house.store.close()

    keys, largest = house.settings.keys(), house.settings.max_upload_bytes
    asked = [Depends(HTTPBearer(auto_error=False))] if keys else []  # so that /docs asks for the key
    app = FastAPIOffline(
        title="Redpencil services", version="1", lifespan=lifespan, redoc_url=None, dependencies=asked
    )
    app.state.house = house
    for kind in (RedpencilError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, asgi.handle)  # type: ignore[arg-type]
    for module in ROUTERS:
        app.include_router(module.router)
    open_paths = asgi.OPEN_PATHS | asgi.DESCRIBED | front.OPEN_PATHS
    names = names_of(house.settings, house.settings.services)
    app.add_middleware(SameOrigin, names=names, setting="REDPENCIL_SERVICES_URL", open_paths=asgi.OPEN_PATHS)
    app.add_middleware(asgi.Edge, keys=keys, max_body=largest, open_paths=open_paths)
    return app


def watch(house: House) -> Callable[[], None]:
    """Start reconciler and scheduler, each in a thread; returns what stops them and their children."""
    stopping = threading.Event()
    watchers = [
        threading.Thread(target=watcher.run, args=(stopping,), name=name, daemon=True)
        for name, watcher in (("reconciler", house.reconciler), ("scheduler", house.scheduler))
    ]
    for thread in watchers:
        thread.start()

    def stop() -> None:
        stopping.set()
        house.reconciler.wake()
        for thread in watchers:
            thread.join(STOP_TIMEOUT_S)

    return stop
