"""From a question to what Qwen2.5-VL takes: the tokens of the messages, and patches of their images."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from redpencil.errors import BadImage, BadInput
from redpencil.formats import open_pages
from redpencil.pixels import Pixels
from training.vlm_protocol import Part, Question

SIDE = 28  # pixels of an image token


def prompt(processor: Any, question: Question, most: int) -> dict[str, Any]:
    """Tensors by the names that transformers gives them; BadInput where `most` tokens are too few."""
    images = [image_of(part, most) for m in question.messages for part in m.parts if part.type == "image_url"]
    messages = [{"role": m.role, "content": content(processor, m.parts)} for m in question.messages]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    given: dict[str, Any] = processor(text=[text], images=images or None, return_tensors="pt")
    if (length := given["input_ids"].shape[1]) + question.max_tokens > most:
        raise BadInput(
            f"the question has {length} tokens, and with max_tokens {question.max_tokens} more than {most}; "
            "send a smaller image, or ask for less"
        )
    return given


def content(processor: Any, parts: Sequence[Part]) -> list[dict[str, str]]:
    """The parts of a message as Qwen's chat format takes them."""
    if any(token in p.text for p in parts for token in (processor.image_token, processor.video_token)):
        raise BadInput("a text holds the token that stands for an image; send images as image_url")
    return [{"type": p.type.removesuffix("_url"), "text": p.text} for p in parts]


def image_of(part: Part, most: int) -> Pixels:
    """The image in a data: URL; BadImage where it cannot become `most` image tokens as it is."""
    head, _, coded = (part.image_url.url if part.image_url else "").partition(",")
    if not head.startswith("data:") or not head.endswith(";base64"):
        raise BadImage("image_url must be data:image/...;base64,...; nothing is fetched from elsewhere")
    try:
        data = base64.b64decode(coded, validate=True)
    except ValueError as error:
        raise BadImage(f"the image in image_url is not base64: {error}") from error
    (image,) = open_pages(data, None, most * SIDE**2, 1)
    height, width = image.shape[:2]
    if height % SIDE or width % SIDE:
        raise BadImage(f"the sides of an image must be multiples of {SIDE} px, not {width} x {height}")
    return image
