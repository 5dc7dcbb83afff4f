"""A request's body, whichever way it comes, as uploads and options."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from redpencil.errors import BadImage, BadInput, Malformed, UnsupportedMedia
from redpencil.types import Task
from serving.protocol import BODIES, MOST_IMAGES, OPTIONS, ImageBody, OcrOptions, Options
from serving.reader import Mode, Upload

M = TypeVar("M", bound=BaseModel)
MAX_PARTS = MOST_IMAGES
RAW = ("application/pdf", "application/x-pdf", "application/octet-stream", "binary/octet-stream")
HOW = (
    "send an image as the body with its own Content-Type (image/*, application/pdf), "
    "files as multipart/form-data (curl -F file=@page.jpg), or JSON with base64"
)


@dataclass(frozen=True)
class Asked:
    """What a request asks for. An image that cannot even be taken apart stands here as its error."""

    uploads: tuple[Upload | BadInput, ...]
    options: Options

    @property
    def mode(self) -> Mode:
        """How pages are cut into regions. A caption has the whole page for its one region, as a line has."""
        return self.options.mode if isinstance(self.options, OcrOptions) else "line"


def parse(task: Task, content_type: str, query: Mapping[str, str], client_key: str, body: bytes) -> Asked:
    """Take a body apart by its content type; raises Malformed, BadInput or UnsupportedMedia."""
    kind, parameters = parse_options_header(content_type)
    said = {**query} | ({"client_key": client_key} if client_key else {})
    if kind == b"application/json":
        return _json(task, body, said)
    if kind == b"multipart/form-data":
        return _multipart(task, body, parameters.get(b"boundary", b""), said)
    media_type = kind.decode("latin-1")
    if media_type and media_type not in RAW and not media_type.startswith("image/"):
        raise UnsupportedMedia(f"{media_type} is not read here: {HOW}")
    if not body:
        raise (
            BadImage("the image is empty (0 bytes)") if media_type else Malformed(f"there is no body: {HOW}")
        )
    options = options_for(task, said)
    return Asked((Upload(body, media_type or None, options.group),), options)


def options_for(task: Task, said: Mapping[str, object]) -> Options:
    """What was said about a request for this task; BadInput where it makes no sense there."""
    try:
        return OPTIONS[task].model_validate(said)
    except ValidationError as exc:
        raise BadInput(words(exc)) from exc


def from_json(kind: type[M], body: bytes) -> M:
    """A JSON body as its model; Malformed where it is no JSON, BadInput where it does not fit."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as exc:
        broken = any(e["type"] == "json_invalid" for e in exc.errors())
        raise (Malformed if broken else BadInput)(words(exc)) from exc


def _json(task: Task, body: bytes, said: Mapping[str, str]) -> Asked:
    asked = from_json(BODIES[task], body)
    stated = asked.model_dump(include=asked.model_fields_set - {"images"})
    options = options_for(task, {**said, **stated})
    return Asked(tuple(_upload(image, options) for image in asked.images), options)


def _upload(image: ImageBody, options: Options) -> Upload | BadInput:
    try:
        return Upload(decoded(image.data), image.media_type, image.group or options.group)
    except BadImage as exc:
        return exc


def decoded(text: str) -> bytes:
    """The bytes of a base64 text; BadImage where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadImage(f"the image is not base64: {exc}") from exc


@dataclass
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: bytes = b""
    value: bytes = b""
    chunks: list[bytes] = field(default_factory=list)

    def end_header(self) -> None:
        self.headers[self.name.lower()] = self.value
        self.name = self.value = b""


def _multipart(task: Task, body: bytes, boundary: bytes, said: Mapping[str, str]) -> Asked:
    files: list[_Part] = []
    fields = dict(said)
    for part in _parts(body, boundary):
        _, disposition = parse_options_header(part.headers.get(b"content-disposition", b""))
        if b"filename" in disposition or part.headers.get(b"content-type", b"").startswith(b"image/"):
            files.append(part)
        else:
            fields[disposition.get(b"name", b"").decode("utf-8", "replace")] = _text(part)
    if not files:
        raise BadInput(
            "the form has no file: name at least one part with a filename, as in curl -F file=@page.jpg"
        )
    options = options_for(task, fields)
    return Asked(tuple(Upload(b"".join(f.chunks), _media_type(f), options.group) for f in files), options)


def _parts(body: bytes, boundary: bytes) -> list[_Part]:
    parts: list[_Part] = []

    def begin() -> None:
        if len(parts) >= MAX_PARTS:
            raise BadInput(f"the form has more than {MAX_PARTS} parts")
        parts.append(_Part())

    def name(data: bytes, start: int, end: int) -> None:
        parts[-1].name += data[start:end]

    def value(data: bytes, start: int, end: int) -> None:
        parts[-1].value += data[start:end]

    complete: list[bool] = []
    callbacks = {
        "on_part_begin": begin,
        "on_part_data": lambda data, start, end: parts[-1].chunks.append(data[start:end]),
        "on_header_field": name,
        "on_header_value": value,
        "on_header_end": lambda: parts[-1].end_header(),
        "on_end": lambda: complete.append(True),
    }
    try:
        parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as exc:
        raise Malformed(f"the multipart body cannot be taken apart: {exc}") from exc
    if not complete:
        raise Malformed("the multipart body is cut short: its closing boundary is missing")
    return parts


def _text(part: _Part) -> str:
    return b"".join(part.chunks).decode("utf-8", "replace")


def _media_type(part: _Part) -> str | None:
    named = part.headers.get(b"content-type", b"").decode("latin-1")
    if not named.isprintable():
        raise Malformed(f"the Content-Type of a part of the form is none: {named!r}")
    return named or None


def words(exc: ValidationError) -> str:
    """What is wrong with a body, field by field."""
    return "; ".join(f"{'.'.join(str(p) for p in e['loc']) or 'body'}: {e['msg']}" for e in exc.errors()[:5])
