"""The bodies that cross the HTTP door: what is accepted, and what an answer looks like."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from redpencil.text import WRITTEN, label
from redpencil.types import Block, Page, Prediction, Task
from serving.reader import Mode

MOST_IMAGES = 1000  # of one request


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Named(Strict):
    """What names a document or a client: cleaned as people's own words are, so that one name is one group."""

    @field_validator("group", "client_key", mode="after", check_fields=False)
    @classmethod
    def _clean(cls, name: str | None, info: ValidationInfo) -> str | None:
        return name and label(name, str(info.field_name))


class ImageBody(Named):
    data: str = Field(description="the image or document, base64")
    media_type: str | None = Field(None, pattern=WRITTEN, description="such as image/jpeg; the bytes decide")
    group: str | None = Field(
        None, max_length=200, description="document it belongs to; all of a group train or test together"
    )


class Options(Named):
    """What may be said about a request; also as query parameters or form fields."""

    model_version: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        pattern=WRITTEN,
        description="answer with exactly this version, outside of any experiment",
    )
    client_key: str = Field(
        "", max_length=200, description="who asks; the same key stays with the same arm of an experiment"
    )
    group: str | None = Field(None, max_length=200, description="group of every image without one of its own")


class OcrOptions(Options):
    mode: Mode = Field("auto", description="auto: a single line or a page, by its look; line; page")


class OcrBody(OcrOptions):
    images: list[ImageBody] = Field(min_length=1, max_length=MOST_IMAGES, fail_fast=True)


class CaptionBody(Options):
    images: list[ImageBody] = Field(min_length=1, max_length=MOST_IMAGES, fail_fast=True)


OPTIONS: dict[Task, type[Options]] = {Task.OCR: OcrOptions, Task.CAPTION: Options}
BODIES: dict[Task, type[OcrBody | CaptionBody]] = {Task.OCR: OcrBody, Task.CAPTION: CaptionBody}


class Dimensions(Strict):
    width: int
    height: int


class BlockAnswer(Strict):
    id: str = Field(description="name it as `region` when you correct this line")
    bbox: tuple[int, int, int, int] = Field(description="x0, y0, x1, y1 in pixels of the upright page")
    polygon: list[tuple[float, float]] | None = Field(
        None, description="four corners, where the line is rotated"
    )
    text: str
    confidence: float = Field(description="0..1, the mean over characters")
    char_confidence: list[float] = Field(description="0..1 for each character of text")


class PageAnswer(Strict):
    index: int
    dimensions: Dimensions
    text: str
    blocks: list[BlockAnswer]


class OcrAnswer(Strict):
    prediction_id: str = Field(description="name it when you correct a line; it is on disk already")
    model: str
    model_version: str
    variant: str = Field(description="champion, challenger or explicit")
    image: str = Field(description="sha256 of the bytes that were sent")
    text: str = Field(description="all pages' text, a line break after each line")
    pages: list[PageAnswer]


class CaptionAnswer(OcrAnswer):
    """Each page is one block, `p0-b0` on the first: the whole image."""

    confidence: float = Field(description="0..1, the mean over pages")


class KeptAnswer(OcrAnswer):
    confidence: float | None = Field(None, description="of a caption")
    created_at: float
    revision: int
    latency_ms: float
    mirror_of: str | None


class Problem(Strict):
    type: str
    message: str
    request_id: str


class ErrorAnswer(Strict):
    error: Problem


class ManyAnswer(Strict):
    results: list[OcrAnswer | ErrorAnswer] = Field(description="in the order of the images")


class ManyCaptions(Strict):
    results: list[CaptionAnswer | ErrorAnswer] = Field(description="in the order of the images")


def answer(prediction: Prediction) -> dict[str, Any]:
    """A prediction as its JSON answer; built by hand, because it is built for every request."""
    pages = [_page(page, [b for b in prediction.blocks if b.page == page.index]) for page in prediction.pages]
    return {
        "prediction_id": prediction.id,
        "model": prediction.model,
        "model_version": prediction.version,
        "variant": prediction.variant.value,
        "image": prediction.image,
        "text": "\n".join(p["text"] for p in pages),
        **_sureness(prediction),
        "pages": pages,
    }


def _sureness(prediction: Prediction) -> dict[str, float]:
    if prediction.task is not Task.CAPTION:
        return {}
    sure = [block.confidence for block in prediction.blocks]
    return {"confidence": sum(sure) / max(1, len(sure))}


def kept(prediction: Prediction) -> dict[str, Any]:
    """A stored prediction as GET /v1/predictions/{id} shows it."""
    return answer(prediction) | {
        "created_at": prediction.created_at,
        "revision": prediction.revision,
        "latency_ms": prediction.latency_ms,
        "mirror_of": prediction.mirror_of,
    }


def _page(page: Page, blocks: Sequence[Block]) -> dict[str, Any]:
    return {
        "index": page.index,
        "dimensions": {"width": page.width, "height": page.height},
        "text": "\n".join(b.text for b in blocks),
        "blocks": [_block(b) for b in blocks],
    }


def _block(block: Block) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": block.id, "bbox": block.bbox}
    if not _upright(block):
        shown["polygon"] = block.polygon
    return shown | {
        "text": block.text,
        "confidence": block.confidence,
        "char_confidence": block.char_confidence,
    }


def _upright(block: Block) -> bool:
    """Whether the polygon says no more than the bbox."""
    x0, y0, x1, y1 = block.bbox
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return all(
        abs(a - b) <= 1
        for p, q in zip(block.polygon, corners, strict=True)
        for a, b in zip(p, q, strict=True)
    )


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """A body's JSON schema in one piece, for OpenAPI documents that are put together by hand."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inline(parts[node["$ref"].rsplit("/", 1)[1]])
        return {key: inline(value) for key, value in node.items()}

    return dict(inline(schema))


def to_json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
