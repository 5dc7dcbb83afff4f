"""What a person should look at next, and the pictures to look at."""

from __future__ import annotations

import math
import random
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from redpencil.errors import BadInput, UnsupportedMedia
from redpencil.text import label
from redpencil.types import Block, Image, Polygon, Prediction
from services.bodies import Place
from services.drafts import polygon_of
from services.house import Here, House
from services.once import OnceOnly
from services.views import place_urls

router = APIRouter(prefix="/v1", tags=["review"])
Mode = Literal["mixed", "useful", "audit"]
HOW = (
    "send the image as the body with its own Content-Type (image/*, application/pdf), "
    "as in curl -H 'content-type: image/jpeg' --data-binary @page.jpg"
)


@router.get("/review/next")
def next_lines(
    house: Here,
    model: str | None = None,
    n: Annotated[int, Query(ge=1, le=100)] = 1,
    mode: Annotated[
        Mode,
        Query(description="mixed: by audit_share at random, else useful"),
    ] = "mixed",
    blind: Annotated[bool, Query(description="leave the reading out, for text typed unseen")] = False,
) -> dict[str, Any]:
    """Lines that nobody has corrected yet: those that should teach the most, or a random audit sample.

    Useful is where the reader was unsure of what has not been asked yet: characters in their
    surroundings, and documents; so lines that are alike do not come together.
    A line drawn for audit carries an `audit_token`; sent back with its correction it records the
    known chance with which the line was drawn. No other way records one.
    """
    name = house.known(model)
    waiting = house.store.predictions.uncorrected_count(name)
    audits = _audits(mode, n, house.settings.audit_share)
    items = _drawn(house, name, audits, waiting) + _useful(house, name, n - audits)
    items = list({(i["prediction_id"], i["region"]): i for i in reversed(items)}.values())[::-1]
    return {"items": [_blinded(i) for i in items] if blind else items, "waiting": waiting}


def _audits(mode: Mode, n: int, share: float) -> int:
    """How many of n lines are drawn at random."""
    if mode != "mixed":
        return n if mode == "audit" else 0
    return sum(random.random() < share for _ in range(n))


def _drawn(house: House, model: str, n: int, waiting: int) -> list[dict[str, Any]]:
    if not n or not waiting:
        return []
    found = house.store.predictions.uncorrected(model, n, order="random")
    chance = min(1.0, n / waiting)
    return [_shown(p, b) | {"audit_token": house.auditor.token(p.id, b.id, chance)} for p, b in found]


def _useful(house: House, model: str, n: int) -> list[dict[str, Any]]:
    return [_shown(p, b) for p, b in house.store.predictions.useful(model, n)] if n else []


def _shown(prediction: Prediction, block: Block) -> dict[str, Any]:
    return {
        "prediction_id": prediction.id,
        "region": block.id,
        "page": block.page,
        "bbox": list(block.bbox),
        "polygon": block.polygon,
        "text": block.text,
        "confidence": block.confidence,
        "char_confidence": block.char_confidence,
        "model": prediction.model,
        "model_version": prediction.version,
        "image": prediction.image,
        **place_urls(prediction.image, block.page, block.polygon),
        "audit_token": None,
    }


def _blinded(item: dict[str, Any]) -> dict[str, Any]:
    return item | {"text": None, "confidence": None, "char_confidence": None}


@router.get("/images/{sha256}", response_class=Response, responses={200: {"content": {"image/png": {}}}})
def picture(
    sha256: str,
    house: Here,
    page: Annotated[int, Query(ge=0)] = 0,
    bbox: Annotated[str | None, Query(description="x0,y0,x1,y1")] = None,
    polygon: Annotated[str | None, Query(description="x,y of the four corners")] = None,
    width: Annotated[int | None, Query(ge=16, le=10_000, description="no wider than this")] = None,
) -> Response:
    """A page of an image as PNG, upright; with bbox or polygon, one line of it."""
    png = house.pictures.png(sha256, page, _polygon(bbox, polygon), width)
    headers = {"cache-control": "private, max-age=86400, immutable", "x-content-type-options": "nosniff"}
    return Response(png, headers=headers, media_type="image/png")


@router.post("/images", status_code=201)
async def add(request: Request, house: Here, once: OnceOnly, group: str | None = None) -> Response:
    """Make an image known without reading it, for truth that was typed elsewhere. The body is the file."""
    data, media_type = await request.body(), request.headers.get("content-type", "")
    return await run_in_threadpool(once, lambda: (201, _added(house, data, media_type, group)))


def _added(house: House, data: bytes, media_type: str, group: str | None) -> dict[str, Any]:
    try:
        pages = house.pictures.sizes(data, media_type)
    except UnsupportedMedia as error:
        if media_type.startswith("image/"):
            raise
        raise UnsupportedMedia(f"{error}: {HOW}") from error
    sha256 = house.blobs.put(data)
    named = label(group, "group") if group else ""
    image = Image(sha256, named or sha256, media_type, time.time())
    kept = house.store.images.add_many([image])[0]
    sizes = [{"index": i, "width": width, "height": height} for i, (width, height) in enumerate(pages)]
    return {"image": kept.sha256, "group": kept.group, "pages": sizes}


def _polygon(bbox: str | None, polygon: str | None) -> Polygon | None:
    box = _numbers(bbox, 4, "bbox")
    corners = _numbers(polygon, 8, "polygon")
    points = None if corners is None else [corners[i : i + 2] for i in range(0, 8, 2)]
    return polygon_of(Place(bbox=box, polygon=points))


def _numbers(text: str | None, count: int, name: str) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",", count)]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise BadInput(f"{name} is {count} numbers with commas between, not {text[:60]!r}")
    return numbers
