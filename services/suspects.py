"""Corrections that training doubted and did not learn from: a person sees each and decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query

from redpencil.snapshot import side_of
from redpencil.types import Correction, CorrectionState, Doubt
from services.bodies import Confirm
from services.house import Caller, Here, person
from services.views import of_correction, place_urls

router = APIRouter(prefix="/v1", tags=["review"])


@router.get("/review/suspects")
def suspects(
    house: Here,
    model: str | None = None,
    every: Annotated[bool, Query(description="also those that were learned from all the same")] = False,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """The corrections that the latest run which looked at them left out, the most suspect first.

    What is confirmed, revoked or corrected anew leaves the list. `score` is how likely the correction
    is wrong, `why` says what speaks against it; `authors` how often doubts about them were settled. Of
    `side` holdout nothing is ever learned: such a one goes on judging versions until a person decides.
    """
    task = house.settings.task_of(house.known(model))
    found = house.store.doubts.suspects(task, every, limit)
    states = house.store.corrections.state_of([c.id for c, _ in found])
    settled = house.store.doubts.settled(task)
    authors = {c.author: settled.get(c.author, (0, 0)) for c, _ in found}
    return {
        "items": [_shown(c, d, states) for c, d in found],
        "left_out": house.store.doubts.count(task),
        "authors": {who: {"right": right, "wrong": wrong} for who, (right, wrong) in authors.items()},
    }


def _shown(correction: Correction, doubt: Doubt, states: Mapping[str, CorrectionState]) -> dict[str, Any]:
    view = of_correction(correction, states[correction.id])
    view |= {"score": doubt.score, "why": doubt.why, "left_out": doubt.left_out}
    view |= {"doubted_by": doubt.run, "doubted_at": doubt.at, "side": side_of(correction.group).value}
    return view | place_urls(correction.image, correction.page, correction.polygon)


@router.post("/corrections/{id}/confirm", tags=["corrections"])
def confirm(id: str, body: Confirm, house: Here, caller: Caller) -> dict[str, Any]:
    """Say that it is right: from the next run on it is learned from, and never doubted again."""
    house.store.doubts.confirm(id, person(body.who, caller), body.why)
    correction, state = house.store.corrections.get(id), house.store.corrections.state_of([id])[id]
    return of_correction(correction, state) | {"confirmation": house.store.doubts.confirmation(id)}
