"""From what a client sent to a Correction that can be kept, or words why not."""

from __future__ import annotations

import functools
import time
from dataclasses import replace
from typing import Any

from redpencil import text
from redpencil.errors import BadInput, Conflict, NotFound
from redpencil.ids import new_id
from redpencil.pixels import crop_line, whole
from redpencil.store import Store
from redpencil.types import Block, Correction, Image, Kind, Polygon, Prediction, Task
from services.bodies import ImportedCorrection, NewCorrection, Place
from services.house import House, name_of_person

LISTED = 50
FUTURE_S = 300.0


class Known:
    """What drafts refer to, looked up once for a whole list of them."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.prediction = functools.cache(house.store.predictions.get)
        self.image = functools.cache(self._image)

    def _image(self, sha256: str) -> Image:
        if (image := self.house.store.images.get(sha256)) is None:
            raise NotFound(
                f"no image {sha256} is known here; send it for a prediction, or to /v1/images, first"
            )
        return image


def draft(known: Known, body: NewCorrection, caller: str) -> Correction:
    """The correction that a body states; BadInput or NotFound say what is wrong with it."""
    if (body.prediction_id is None) == (body.image is None):
        raise BadInput("name either prediction_id or, for a place that no prediction covers, image")
    author = name_of_person(body.author) if body.author is not None else caller
    if body.prediction_id is None:
        return _of_place(known, body, author)
    prediction = known.prediction(body.prediction_id)
    if body.task not in (None, prediction.task):
        raise BadInput(f"{prediction.id} is about the task {prediction.task}, not {body.task}")
    if polygon_of(body) is not None:
        return _of_missed_line(known, body, prediction, author)
    return _of_block(known, body, prediction, author)


def check_seen(store: Store, body: NewCorrection, made: Correction) -> None:
    """Conflict where somebody has said another word on a line than the one that was seen.

    Asked in the transaction that keeps the correction: of two who send theirs at once one is told.
    """
    if body.seen is None or made.prediction is None or made.region is None or made.task is not Task.OCR:
        return
    last = store.corrections.last_word(made.prediction, made.region)
    if last and last.id != body.seen:
        raise Conflict(f"{last.author} has corrected this line meanwhile: {last.text!r}; open it anew")


def imported(known: Known, body: ImportedCorrection, caller: str) -> Correction:
    """As `draft`, with the id and the time that the line brings along, if any."""
    made = draft(known, _essence(known, body), caller)
    if body.created_at is not None and body.created_at > time.time() + FUTURE_S:
        raise BadInput("created_at lies in the future")
    own: dict[str, Any] = {"id": body.id, "created_at": body.created_at}
    return replace(made, **{k: v for k, v in own.items() if v is not None})


def _essence(known: Known, body: ImportedCorrection) -> ImportedCorrection:
    """Without what an exported line says twice: a prediction knows its image, a region its place.

    Of a prediction that another home made its place and text are left, and nothing about an arm.
    """
    if body.prediction_id is None:
        return body
    try:
        image = known.prediction(body.prediction_id).image
    except NotFound:
        if body.image is None or body.text is None:
            raise
        stated = Kind.CORRECT if body.kind is Kind.ACCEPT else body.kind
        gone = dict.fromkeys(("prediction_id", "region", "audit_token"))
        return body.model_copy(update={**gone, "kind": stated})
    if body.image not in (None, image):
        raise BadInput(f"{body.prediction_id} is about image {image}, not {body.image}")
    place = {"page": 0, "bbox": None, "polygon": None} if body.region is not None else {}
    return body.model_copy(update={"image": None, **place})


def polygon_of(place: Place) -> Polygon | None:
    if place.polygon is not None and place.bbox is not None:
        raise BadInput("give bbox or polygon, not both")
    if place.polygon is not None:
        return tuple((x, y) for x, y in place.polygon)
    if place.bbox is None:
        return None
    x0, y0, x1, y1 = place.bbox
    if x1 <= x0 or y1 <= y0:
        raise BadInput("bbox is [x0, y0, x1, y1] with x0 < x1 and y0 < y1")
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _of_block(known: Known, body: NewCorrection, prediction: Prediction, author: str) -> Correction:
    block = _block(prediction, body.region)
    return Correction(
        **_common(body, author, prediction.task, known.image(prediction.image)),
        page=block.page,
        polygon=block.polygon,
        text=_text(body, prediction.task, block.text),
        prediction=prediction.id,
        region=block.id,
        predicted=block.text,
        audit_probability=_audit(known, body, block.id),
        **_arm(prediction),
    )


def _of_missed_line(known: Known, body: NewCorrection, prediction: Prediction, author: str) -> Correction:
    """A line on a predicted image that the reader did not find."""
    if body.region is not None:
        raise BadInput("give either region, for a line that was found, or bbox/polygon, for one that was not")
    return Correction(
        **_common(body, author, prediction.task, known.image(prediction.image)),
        page=body.page,
        polygon=_checked_place(known, prediction.image, body, prediction.task),
        text=_text(body, prediction.task),
        prediction=prediction.id,
        audit_probability=_audit(known, body, None),
        **_arm(prediction),
    )


def _of_place(known: Known, body: NewCorrection, author: str) -> Correction:
    image, task = known.image(str(body.image)), body.task or Task.OCR
    if body.region is not None:
        raise BadInput("region names a block of a prediction: give prediction_id with it, or bbox/polygon")
    return Correction(
        **_common(body, author, task, image),
        page=body.page,
        polygon=_checked_place(known, image.sha256, body, task),
        text=_text(body, task),
        audit_probability=_audit(known, body, None),
    )


def _common(body: NewCorrection, author: str, task: Task, image: Image) -> dict[str, Any]:
    made = {
        "id": new_id("corr"),
        "created_at": time.time(),
        "task": task,
        "kind": body.kind,
        "author": author,
    }
    return made | {"image": image.sha256, "group": image.group}


def _arm(prediction: Prediction) -> dict[str, Any]:
    return {"model": prediction.model, "version": prediction.version, "variant": prediction.variant.value}


def _block(prediction: Prediction, region: str | None) -> Block:
    blocks = {block.id: block for block in prediction.blocks}
    if region in blocks:
        return blocks[region]
    if not blocks:
        raise BadInput(f"{prediction.id} found no line; state a missed one with bbox or polygon")
    if region is None and len(blocks) == 1:
        return prediction.blocks[0]
    ids = ", ".join([*list(blocks)[:LISTED], *(["..."] if len(blocks) > LISTED else [])])
    what = "has several lines: say which region" if region is None else f"has no region {region!r}"
    raise BadInput(f"{prediction.id} {what}; there are {ids}")


def _text(body: NewCorrection, task: Task, predicted: str | None = None) -> str:
    said = _accepted(body, predicted) if body.kind is Kind.ACCEPT else _stated(body)
    if task is Task.CAPTION and not said.strip():
        raise BadInput("the caption is empty: say in words what is to be seen")
    return said


def _stated(body: NewCorrection) -> str:
    if body.text is None:
        raise BadInput("text is missing: give the true text (empty where nothing is written), or kind accept")
    return text.clean(body.text)


def _accepted(body: NewCorrection, predicted: str | None) -> str:
    if predicted is None:
        raise BadInput("kind accept confirms a predicted line, and here is none: give the text, kind correct")
    if body.text is not None and text.clean(body.text) != text.clean(predicted):
        raise BadInput(f"kind accept confirms {predicted!r}, but the text differs; use kind correct")
    return text.clean(predicted)


def _audit(known: Known, body: NewCorrection, region: str | None) -> float | None:
    if body.audit_token is None:
        return None
    return known.house.auditor.probability(body.audit_token, body.prediction_id, region)


def _checked_place(known: Known, sha256: str, body: NewCorrection, task: Task) -> Polygon:
    """The place of a line, which must lie on the page; without one, and for a caption, the whole page."""
    picture = known.house.pictures.page(sha256, body.page)
    polygon = polygon_of(body) or whole(picture)
    if task is Task.CAPTION and polygon != whole(picture):
        raise BadInput("a caption is about the whole image: leave bbox and polygon out")
    crop_line(picture, polygon)
    height, width = picture.shape[:2]
    return tuple((min(max(x, 0), width), min(max(y, 0), height)) for x, y in polygon)
