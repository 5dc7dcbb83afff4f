"""What a server of adapted vision-language models is asked and answers: OpenAI's words, and vLLM's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from redpencil.ids import new_id


class ImageUrl(BaseModel):
    url: str


class Part(BaseModel):
    """A piece of a message: words, or an image as a data: URL."""

    type: Literal["text", "image_url"]
    text: str = ""
    image_url: ImageUrl | None = None


class Message(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str | list[Part]

    @property
    def parts(self) -> list[Part]:
        return [Part(type="text", text=self.content)] if isinstance(self.content, str) else self.content


class Question(BaseModel):
    """A chat completion. The likeliest token is written at every step; who wants others is refused."""

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: int = Field(256, ge=1)
    logprobs: bool = False
    temperature: float = Field(0, ge=0, le=0)
    repetition_penalty: float = Field(1, ge=1, le=1)
    n: int = Field(1, ge=1, le=1)
    stream: Literal[False] = False


class Adapters(BaseModel):
    lora_name: str = Field(min_length=1)
    lora_path: Path
    load_inplace: bool = False


class Named(BaseModel):
    lora_name: str


@dataclass(frozen=True)
class Token:
    """A token that was written; its bytes come with the token that ends a character."""

    text: str
    logprob: float
    spelled: bytes


@dataclass(frozen=True)
class Written:
    """What was written, token by token (the one that ended it too), behind so many tokens of the question."""

    text: str
    tokens: Sequence[Token]
    ended: bool
    behind: int


def answer(asked: Question, written: Written) -> dict[str, Any]:
    """As OpenAI's API puts it."""
    told = [{"token": t.text, "logprob": t.logprob, "bytes": list(t.spelled)} for t in written.tokens]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": written.text},
        "logprobs": {"content": told} if asked.logprobs else None,
        "finish_reason": "stop" if written.ended else "length",
    }
    before, new = written.behind, len(written.tokens)
    return {
        "id": new_id("chatcmpl"),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.model,
        "choices": [choice],
        "usage": {"prompt_tokens": before, "completion_tokens": new, "total_tokens": before + new},
    }
