"""What every route of the services may need, and who is asking."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from redpencil.asgi import as_sent
from redpencil.blobs import Blobs
from redpencil.errors import BadInput, NotFound
from redpencil.registry import Registry
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.text import label
from services.audit import Auditor
from services.judge import Judge
from services.pictures import Pictures
from services.reconcile import Reconciler
from services.scheduler import Scheduler


@dataclass(frozen=True)
class House:
    """The parts of the services, put together once in `app.build`."""

    settings: Settings
    store: Store
    blobs: Blobs
    registry: Registry
    pictures: Pictures
    auditor: Auditor
    judge: Judge
    reconciler: Reconciler
    scheduler: Scheduler

    @property
    def models(self) -> tuple[str, ...]:
        return self.settings.models

    def known(self, model: str | None) -> str:
        """The model asked for, the one that reads text where none was named."""
        if model in (None, *self.models):
            return model or self.settings.model
        raise NotFound(f"there is no model {model!r} here; there is {', '.join(self.models)}")


def house(request: Request) -> House:
    found: House = request.app.state.house
    return found


def caller(request: Request) -> str:
    """Who asks: the X-Author header, else a short name of the API key, else anonymous."""
    if name := as_sent(request.headers.get("x-author", "")).strip():
        return name_of_person(name)
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return f"key-{hashlib.sha256(key.strip().encode()).hexdigest()[:8]}"
    return "anonymous"


def name_of_person(name: str) -> str:
    """A name as it may stand in the ledger: one short line of text."""
    if not (cleaned := label(name, "the author's name")):
        raise BadInput("the author's name is empty")
    return cleaned


def person(named: str | None, caller: str) -> str:
    """Who does a thing: whom the body names, else who calls."""
    return name_of_person(named) if named else caller


Here = Annotated[House, Depends(house)]
Caller = Annotated[str, Depends(caller)]
