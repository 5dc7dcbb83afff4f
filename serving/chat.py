"""An OpenAI-compatible door to both tasks: `POST /v1/chat/completions` and `GET /v1/models`.

It reads the images of the last user message, and does nothing else that a language model would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from redpencil import asgi
from redpencil.errors import BadInput
from redpencil.types import Prediction
from serving.body import Asked, decoded, from_json, options_for
from serving.engine import Engine, whole
from serving.protocol import Strict, answer, schema_of
from serving.reader import Upload
from serving.upload import FAILURES, length_of, models_of, note, received, taken_apart, told

router = APIRouter(tags=["OpenAI-compatible"])
MOST = 1000  # messages, and parts of one
HOW = "send the image itself as a data URL: data:image/png;base64,..."


class ImageUrl(Strict):
    url: str = Field(description="data:image/png;base64,... (or another type of image, or application/pdf)")
    detail: str | None = Field(None, description="ignored: images are read as they are")


class ImagePart(Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


class TextPart(Strict):
    type: Literal["text"]
    text: str = Field(description="ignored: the model decides what is said about an image")


Part = Annotated[TextPart | ImagePart | dict[str, Any], Field(union_mode="left_to_right")]


class Message(BaseModel):
    """Only the images of the last user message count."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # answers that are sent back have more fields
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Field(max_length=MOST)] | None = None


class ChatBody(Strict):
    model: str = Field(
        description="a served model, such as ocr or caption, or one version of it, outside of any "
        "experiment: ocr:3",
        examples=["ocr", "caption:2"],
    )
    messages: list[Message] = Field(min_length=1, max_length=MOST)
    group: str | None = Field(None, max_length=200, description="as in POST /v1/ocr; not in OpenAI's API")
    user: str = Field("", max_length=200, description="client_key of POST /v1/ocr")
    stream: Literal[False] | None = Field(None, description="answers come in one piece")
    n: Literal[1] | None = Field(None, description="there is one answer")
    max_tokens: int | None = Field(None, description="ignored: the answer is never cut")
    max_completion_tokens: int | None = Field(None, description="ignored, as max_tokens")
    temperature: float | None = Field(None, description="ignored: the same image gives the same answer")
    top_p: float | None = Field(None, description="ignored, as temperature")
    seed: int | None = Field(None, description="ignored, as temperature")
    frequency_penalty: float | None = Field(None, description="ignored")
    presence_penalty: float | None = Field(None, description="ignored")


@router.post(
    "/v1/chat/completions",
    responses=FAILURES,
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": schema_of(ChatBody)}}}},
)
async def complete(request: Request) -> Response:
    """Read the images of the last user message; all text is accepted and ignored.

    The answer has OpenAI's shape, without `usage`, and beside it `prediction_id` for corrections
    (`prediction_ids` for several images, whose texts stand in one answer, a blank line between them;
    one that cannot be read fails the request). Nothing is fetched: image URLs are data URLs.
    """
    models = models_of(request)
    with models.unsorted.body(length_of(request)):
        body = await received(request)
        chat = await taken_apart(request, body, from_json, ChatBody, body)
    model, _, version = chat.model.partition(":")
    engine = models.of(model)
    note(request, engine)
    with engine.admission.body(len(body)):
        asked = await taken_apart(request, body, _asked, chat, engine, version, request.headers)
        outcomes = await engine.read(asked, asgi.request_id_of(request.scope))
    predictions = [whole(outcome) for outcome in outcomes]
    return told(_completion(predictions), predictions)


@router.get("/v1/models", responses=FAILURES)
async def models(request: Request) -> dict[str, Any]:
    """The models that can answer now, and the versions of them that are at hand."""
    listed = [item for engine in models_of(request) for item in await asyncio.to_thread(_listed, engine)]
    return {"object": "list", "data": listed}


def _asked(chat: ChatBody, engine: Engine, version: str, headers: Any) -> Asked:
    client = chat.user or asgi.as_sent(headers.get("x-client-key", ""))
    said: dict[str, object] = {"client_key": client, "group": chat.group}
    if ":" in chat.model:
        said["model_version"] = version
    options = options_for(engine.task, said)
    return Asked(tuple(_upload(part.image_url.url, options.group) for part in _images(chat)), options)


def _images(chat: ChatBody) -> list[ImagePart]:
    asked = [message for message in chat.messages if message.role == "user"]
    content = asked[-1].content if asked else None
    parts = content if isinstance(content, list) else []
    for n, part in enumerate(parts):
        if isinstance(part, dict):
            raise BadInput(
                f"part {n} of the last user message is neither {{type: text, text}} "
                "nor {type: image_url, image_url: {url}}"
            )
    images = [part for part in parts if isinstance(part, ImagePart)]
    if not images:
        raise BadInput(f"the last user message has no image, and images are all that is read here; {HOW}")
    return images


def _upload(url: str, group: str | None) -> Upload:
    head, comma, data = url.partition(",")
    scheme, _, kind = head.partition(":")
    if scheme.lower() != "data":
        raise BadInput(f"{url[:60]!r} is no data URL, and nothing is fetched from elsewhere; {HOW}")
    if not comma or not kind.lower().endswith(";base64"):
        raise BadInput(f"the data URL is not base64; {HOW}")
    return Upload(decoded(data), kind.split(";")[0].replace("\0", "") or None, group)


def _completion(predictions: Sequence[Prediction]) -> dict[str, Any]:
    first, ids = predictions[0], [p.id for p in predictions]
    content = "\n\n".join(answer(p)["text"] for p in predictions)
    message = {"role": "assistant", "content": content, "refusal": None}
    return {
        "id": first.id,
        "object": "chat.completion",
        "created": int(first.created_at),
        "model": f"{first.model}:{', '.join(sorted({p.version for p in predictions}))}",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        **({"prediction_id": ids[0]} if len(ids) == 1 else {"prediction_ids": ids}),
    }


def _listed(engine: Engine) -> list[dict[str, Any]]:
    serving = engine.state
    if serving.state.champion is None:
        return []
    names = {engine.model: serving.state.champion} | {f"{engine.model}:{v}": v for v in serving.readers}
    return [
        {"id": name, "object": "model", "created": int(engine.registered_at(v)), "owned_by": "redpencil"}
        for name, v in names.items()
    ]
