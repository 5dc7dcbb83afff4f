"""A request's body, whichever way it comes, as uploads and options."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from redpencil.errors import BadImage, BadInput, Malformed, UnsupportedMedia
from serving.protocol import ImageBody, OcrBody, Options
from serving.reader import Upload

MAX_PARTS = 1000
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


def parse(content_type: str, query: Mapping[str, str], client_key: str, body: bytes) -> Asked:
    """Take a body apart by its content type; raises Malformed, BadInput or UnsupportedMedia."""
    kind, parameters = parse_options_header(content_type)
    said = {**query} | ({"client_key": client_key} if client_key else {})
    if kind == b"application/json":
        return _json(body, said)
    if kind == b"multipart/form-data":
        return _multipart(body, parameters.get(b"boundary", b""), said)
    media_type = kind.decode("latin-1")
    if media_type and media_type not in RAW and not media_type.startswith("image/"):
        raise UnsupportedMedia(f"{media_type} is not read here: {HOW}")
    if not body:
        raise Malformed(f"the request has no body: {HOW}")
    options = _options(said)
    return Asked((Upload(body, media_type or None, options.group),), options)


def _options(said: Mapping[str, str]) -> Options:
    try:
        return Options.model_validate(said)
    except ValidationError as exc:
        raise BadInput(words(exc)) from exc


def _json(body: bytes, said: Mapping[str, str]) -> Asked:
    try:
        asked = OcrBody.model_validate_json(body)
    except ValidationError as exc:
        broken = any(e["type"] == "json_invalid" for e in exc.errors())
        raise (Malformed if broken else BadInput)(words(exc)) from exc
    stated = asked.model_dump(include=asked.model_fields_set - {"images"})
    options = _options({**said, **stated})
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


def _multipart(body: bytes, boundary: bytes, said: Mapping[str, str]) -> Asked:
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
    options = _options(fields)
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
    return part.headers.get(b"content-type", b"").decode("latin-1") or None


def words(exc: ValidationError) -> str:
    """What is wrong with a body, field by field."""
    return "; ".join(f"{'.'.join(str(p) for p in e['loc']) or 'body'}: {e['msg']}" for e in exc.errors()[:5])
