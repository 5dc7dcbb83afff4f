"""The ledger, lineage, and what is up: read-only."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from redpencil.lineage import trace
from services.house import Here
from services.status import overview
from services.views import of_entry, page_of

router = APIRouter(prefix="/v1", tags=["control"])


@router.get("/ledger")
def ledger(
    house: Here,
    model: str | None = None,
    after: Annotated[str | None, Query(description="the `next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """Who changed what is served, when, from what to what, and why; newest first."""
    found = house.store.ledger.list(model, after, limit + 1)
    return page_of([of_entry(e) for e in found], limit)


@router.get("/lineage/{id:path}")
def lineage(id: str, house: Here) -> dict[str, Any]:
    """Where something comes from and what came of it: any id, or a version as `MODEL/VERSION`."""
    return trace(house.store, id)


@router.get("/status")
def status(house: Here, model: str | None = None) -> dict[str, Any]:
    """Every part, what is served, what is running, what was refused, and the room on the disk.

    Of every model, or of the one named.
    """
    return overview(house, house.models if model is None else (house.known(model),))
