"""The server of adapted models, in front of a model that only says what it was asked."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from redpencil.errors import Conflict, NotFound, NotReady
from training import vlm_api
from training.vlm_protocol import Question, Token, Written
from training.vlm_turns import Turns

ASKED = {"model": "lines", "messages": [{"role": "user", "content": "Read."}], "logprobs": True}
JSON = {"content-type": "application/json"}


class Echo:
    """Writes the last message again; has adapters of one name, and fails in its own words where told to."""

    def __init__(self) -> None:
        self.given, self.fails = {"lines": Path("/lines")}, False

    def models(self) -> list[dict[str, Any]]:
        return [{"id": "base", "parent": None}, *({"id": n, "parent": "base"} for n in self.given)]

    def load(self, name: str, folder: Path, anew: bool) -> None:
        if name in self.given and not anew:
            raise Conflict(f"{name} has already been loaded")
        self.given[name] = folder

    def unload(self, name: str) -> None:
        if self.given.pop(name, None) is None:
            raise NotFound(f"the model {name} is not there")

    def write(self, question: Question) -> Written:
        if self.fails:
            raise RuntimeError("secret detail")
        if question.model not in self.given:
            raise NotFound(f"the model {question.model} does not exist")
        text = question.messages[-1].parts[-1].text
        return Written(text, [Token(text, -0.5, text.encode())], True, 3)


def ask(model: vlm_api.Model, method: str, path: str, key: str = "", **how: Any) -> httpx.Response:
    app = vlm_api.build(model, key, max_body=1000)
    return asyncio.run(_sent(app, method, path, **how))


async def _sent(app: FastAPI, method: str, path: str, **how: Any) -> httpx.Response:
    place = httpx.ASGITransport(app=app), "http://127.0.0.1:8001"
    async with httpx.AsyncClient(transport=place[0], base_url=place[1]) as client:
        return await client.request(method, path, **how)


def test_it_says_that_it_is_there_and_what_it_has() -> None:
    assert ask(Echo(), "GET", "/health", key="secret").json() == {"status": "ready", "waiting": 0}
    assert [m["id"] for m in ask(Echo(), "GET", "/v1/models").json()["data"]] == ["base", "lines"]


def test_a_question_is_answered_as_openai_does() -> None:
    told = ask(Echo(), "POST", "/v1/chat/completions", json=ASKED).json()
    (choice,) = told["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Read."}
    assert choice["logprobs"]["content"] == [{"token": "Read.", "logprob": -0.5, "bytes": [*b"Read."]}]
    assert choice["finish_reason"] == "stop"
    assert told["usage"] == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    short = ask(Echo(), "POST", "/v1/chat/completions", json={**ASKED, "logprobs": False}).json()
    assert short["choices"][0]["logprobs"] is None


def test_adapters_come_and_go_while_it_runs() -> None:
    model, named = Echo(), {"lora_name": "lines", "lora_path": "/other"}
    again = ask(model, "POST", "/v1/load_lora_adapter", json=named)
    assert (again.status_code, "already" in again.text) == (409, True), "which a client takes for loaded"
    assert ask(model, "POST", "/v1/load_lora_adapter", json={**named, "load_inplace": True}).is_success
    assert model.given == {"lines": Path("/other")}
    assert ask(model, "POST", "/v1/unload_lora_adapter", json=named).is_success
    gone = ask(model, "POST", "/v1/chat/completions", json=ASKED)
    assert (gone.status_code, gone.json()["error"]["type"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "JSON"),
        (json.dumps({"model": "lines"}).encode(), 422, "messages"),
        (json.dumps({**ASKED, "max_tokens": 0}).encode(), 422, "max_tokens"),
        (json.dumps({**ASKED, "temperature": 0.7}).encode(), 422, "temperature"),
        (json.dumps({**ASKED, "repetition_penalty": 1.05}).encode(), 422, "repetition_penalty"),
        (json.dumps({**ASKED, "stream": True}).encode(), 422, "stream"),
        (json.dumps({**ASKED, "messages": "hello"}).encode(), 422, "messages"),
        (json.dumps({**ASKED, "messages": [{"role": "x", "content": "y"}]}).encode(), 422, "role"),
        (b" " * 1001, 413, "1000 bytes"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(body: bytes, status: int, said: str) -> None:
    told = ask(Echo(), "POST", "/v1/chat/completions", content=body, headers=JSON)
    assert told.status_code == status
    assert said in told.json()["error"]["message"]


def test_a_fault_of_its_own_is_not_told() -> None:
    model = Echo()
    model.fails = True
    told = ask(model, "POST", "/v1/chat/completions", json=ASKED)
    assert (told.status_code, told.json()["error"]["type"]) == (500, "internal_error")
    assert "secret" not in told.text


def test_what_needs_a_key_is_not_given_without_it() -> None:
    for headers in ({}, {"authorization": "Bearer other"}):
        told = ask(Echo(), "POST", "/v1/chat/completions", key="secret", json=ASKED, headers=headers)
        assert told.status_code == 401
    right = {"authorization": "Bearer secret"}
    assert ask(Echo(), "GET", "/v1/models", key="secret", headers=right).is_success


def test_a_page_that_somebody_opens_loads_nothing_here() -> None:
    """Without a key, another name of this machine or another origin is refused."""
    named = {"lora_name": "new", "lora_path": "/new"}
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
        assert ask(Echo(), "POST", "/v1/load_lora_adapter", json=named, headers=headers).status_code == 401


class Held:
    """Work that goes on until it is let go, and says in which order it was done."""

    def __init__(self) -> None:
        self.go, self.done = threading.Event(), list[int]()

    def work(self, number: int) -> Callable[[], int]:
        def do() -> int:
            assert self.go.wait(60)
            self.done.append(number)
            return number

        return do


def request(gone: bool = False) -> Request:
    async def receive() -> dict[str, str]:
        if not gone:
            await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    return Request({"type": "http"}, receive)


def test_one_is_answered_and_the_others_wait_until_there_are_too_many() -> None:
    held, turns = Held(), Turns(2)

    async def crowd() -> list[int]:
        asked = [asyncio.create_task(turns.take(request(), held.work(n))) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(NotReady, match="2 questions wait already") as told:
            await turns.take(request(), held.work(3))
        assert told.value.retry_after_s >= 1
        held.go.set()
        return await asyncio.gather(*asked)

    assert asyncio.run(crowd()) == held.done == [0, 1, 2]
    assert turns.waiting == 0


def test_whoever_hangs_up_loses_his_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.vlm_turns.LOOK_S", 0.01)
    held, turns = Held(), Turns(2)

    async def crowd() -> None:
        first = asyncio.create_task(turns.take(request(), held.work(0)))
        await asyncio.sleep(0)
        with pytest.raises(NotReady, match="nobody waits"):
            await turns.take(request(gone=True), held.work(1))
        last = asyncio.create_task(turns.take(request(), held.work(2)))
        held.go.set()
        await asyncio.gather(first, last)

    asyncio.run(crowd())
    assert held.done == [0, 2]


def test_whoever_waits_as_the_server_is_ended_is_told_to_come_again() -> None:
    held, turns = Held(), Turns(2)

    async def ended() -> None:
        asked = asyncio.create_task(turns.take(request(), held.work(0)))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(NotReady, match="being ended"):
            await asked
        held.go.set()

    asyncio.run(ended())
