"""The corrections API: what people state to be true, kept for good, never edited, revocable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Response

from redpencil.errors import BadInput, Conflict, NotFound
from redpencil.types import CorrectionState, Task
from services.bodies import NewCorrection, NewCorrections, Revoke
from services.drafts import Known, check_seen, draft
from services.house import Caller, Here, House, person
from services.once import Answer, Once, OnceOnly
from services.views import of_correction, of_prediction, page_of

router = APIRouter(prefix="/v1", tags=["corrections"])
T = TypeVar("T")
Limit = Annotated[int, Query(ge=1, le=500)]


@router.post("/corrections", status_code=201)
def submit(body: NewCorrections, house: Here, caller: Caller, once: OnceOnly) -> Response:
    """Keep one correction or a list of them (all or none); on disk when the answer leaves."""
    return once(lambda: _kept(house, body, caller, once))


def _kept(house: House, body: NewCorrection | list[NewCorrection], caller: str, once: Once) -> Answer:
    known, several = Known(house), isinstance(body, list)
    items = body if isinstance(body, list) else [body]
    drafts = _each(lambda n: draft(known, items[n], caller), len(items), several)
    views = [of_correction(c, CorrectionState.SUBMITTED) for c in drafts]
    with once.transaction() as answered:
        _each(lambda n: check_seen(house.store, items[n], drafts[n]), len(items), several)
        house.store.corrections.add_many(drafts)
        return answered(201, {"items": views} if several else views[0])


def _each(do: Callable[[int], T], count: int, several: bool) -> list[T]:
    """What is done for each; what is wrong with one of a list says with which."""
    made: list[T] = []
    for n in range(count):
        try:
            made.append(do(n))
        except (BadInput, NotFound, Conflict) as error:
            said = f"item {n} of the list (from 0), nothing was kept: {error}" if several else str(error)
            raise type(error)(said) from error
    return made


@router.get("/corrections")
def list_corrections(
    house: Here,
    task: Task | None = None,
    author: str | None = None,
    state: CorrectionState | None = None,
    image: str | None = None,
    prediction_id: str | None = None,
    after: Annotated[str | None, Query(description="the `next` of the page before")] = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    """Newest first; `next` is the cursor of the next page, null on the last."""
    found = house.store.corrections.list(task, author, state, image, prediction_id, after, limit + 1)
    return page_of([of_correction(c, s) for c, s in found], limit)


@router.get("/corrections/{id}")
def one(id: str, house: Here) -> dict[str, Any]:
    """A correction with how far it has come, from submitted to deployed, or revoked and why.

    `doubts` says what the runs thought of it before they learned, `confirmation` what a person did.
    """
    correction = house.store.corrections.get(id)
    state = house.store.corrections.state_of([id])[id]
    view = of_correction(correction, state) | {"revocation": house.store.corrections.revocation(id)}
    doubts = [asdict(d) for d in house.store.doubts.of_correction(id)]
    return view | {"doubts": doubts, "confirmation": house.store.doubts.confirmation(id)}


@router.post("/corrections/{id}/revoke")
def revoke(id: str, body: Revoke, house: Here, caller: Caller) -> dict[str, Any]:
    """Take it back: no later snapshot holds it; which versions learned from it stays known."""
    who = person(body.who, caller)
    house.store.corrections.revoke(id, who, body.why)
    learned = house.store.versions.learned_from(id)
    return one(id, house) | {"learned_by": [f"{v.model}/{v.version}" for v in learned]}


@router.get("/predictions/{id}", tags=["predictions"])
def prediction(id: str, house: Here) -> dict[str, Any]:
    """A prediction as it was given, with its regions and the group that its image is of."""
    found = house.store.predictions.get(id)
    image = house.store.images.get(found.image)
    return of_prediction(found) | {"group": image.group if image else found.image}


@router.get("/predictions", tags=["predictions"])
def list_predictions(
    house: Here,
    model: str | None = None,
    version: str | None = None,
    after: str | None = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    """Newest first, without their regions."""
    found = house.store.predictions.list(model, version, after, limit + 1)
    short = [
        {k: v for k, v in of_prediction(p).items() if k != "blocks"} | {"lines": len(p.blocks)} for p in found
    ]
    return page_of(short, limit)
