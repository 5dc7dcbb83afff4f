"""Both models through the API of OpenAI's clients, and what it cannot have."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from serving_parts import CAPTION, MODEL, Client, Home, chat, data_url, png, serving, until, with_captions

from redpencil.types import Task
from serving.models import Models


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.serve("1")
    home.serve("1", CAPTION)
    return home


def test_openais_clients_can_ask_both_models(home: Home) -> None:
    async def work(client: Client, _: Models) -> None:
        for model, task in ((MODEL, Task.OCR), (CAPTION, Task.CAPTION)):
            sent = chat(model, png("hello"), max_tokens=9, temperature=0, stream=False, user="u1", group="d")
            answer = await client.post("/v1/chat/completions", json=sent)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            [choice] = body["choices"]
            assert choice["message"] == {"role": "assistant", "content": "hello", "refusal": None}
            assert (choice["index"], choice["finish_reason"]) == (0, "stop")
            assert (body["object"], body["model"]) == ("chat.completion", f"{model}:1")
            assert "usage" not in body
            kept = home.store.predictions.get(body["prediction_id"])
            assert (kept.task, kept.client_key, kept.id) == (task, "u1", body["id"])
            image = home.store.images.get(kept.image)
            assert image is not None
            assert (image.group, image.media_type) == ("d", "image/png")
        named = await client.post("/v1/chat/completions", json=chat("ocr:2", png("hello")))
        assert (named.json()["model"], named.headers["x-model-variant"]) == ("ocr:2", "explicit")
        assert named.json()["choices"][0]["message"]["content"] == "hcllo"

    with_captions(home, work)


def test_of_a_conversation_the_last_images_are_read(home: Home) -> None:
    async def work(client: Client, _: Models) -> None:
        earlier = chat("ocr", png("before"))["messages"]
        answer = {"role": "assistant", "content": "before", "refusal": None, "annotations": []}
        sent = chat("ocr", png("one", "two"), png("three"))
        sent["messages"] = [*earlier, answer, *sent["messages"]]
        body = (await client.post("/v1/chat/completions", json=sent)).json()
        assert body["choices"][0]["message"]["content"] == "one\ntwo\n\nthree"
        assert [home.store.predictions.get(i).blocks[0].text for i in body["prediction_ids"]] == [
            "one",
            "three",
        ]

    with_captions(home, work)


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def pictured(url: str) -> list[dict[str, Any]]:
    return user([{"type": "image_url", "image_url": {"url": url}}])


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"messages": pictured("https://example.com/a.png")}, 422, "nothing is fetched"),
        ({"messages": pictured("http://127.0.0.1:8080/")}, 422, "nothing is fetched"),
        ({"messages": pictured("file:///etc/passwd")}, 422, "nothing is fetched"),
        ({"messages": pictured("data:image/png,abc")}, 422, "not base64"),
        ({"messages": pictured("data:image/png;base64")}, 422, "not base64"),
        ({"messages": pictured("data:image/png;base64,!!")}, 422, "not base64"),
        ({"messages": pictured(data_url(b"nonsense"))}, 422, "image"),
        ({"messages": pictured(data_url(png("a"), "text/html"))}, 415, "text/html"),
        ({"messages": user("What is this?")}, 422, "has no image"),
        ({"messages": user([{"type": "text", "text": "hi"}])}, 422, "has no image"),
        ({"messages": [{"role": "system", "content": "x"}]}, 422, "has no image"),
        ({"messages": user([{"type": "input_audio", "input_audio": {}}])}, 422, "part 0"),
        ({"messages": user([{"type": "image_url", "image_url": "x"}])}, 422, "part 0"),
        ({"messages": []}, 422, "messages"),
        ({"model": "gpt-5"}, 404, "ocr and caption"),
        ({"model": "ocr:77"}, 404, "77"),
        ({"model": "ocr:"}, 422, "model_version"),
        ({"stream": True}, 422, "stream"),
        ({"n": 2}, 422, "n"),
        ({"tools": []}, 422, "tools"),
    ],
)
def test_what_a_chat_cannot_have_is_refused_in_our_shape(
    home: Home, change: dict[str, Any], status: int, words: str
) -> None:
    async def work(client: Client, models: Models) -> None:
        answer = await client.post("/v1/chat/completions", json=chat("ocr", png("hello")) | change)
        error = answer.json()["error"]
        assert answer.status_code == status, answer.text
        assert words in error["message"]
        assert error["request_id"] == answer.headers["x-request-id"]
        assert models.ocr.admission.bytes_held == models.ocr.admission.waiting == 0
        assert models.unsorted.bytes_held == 0

    serving(home, work)


def test_chats_that_arrive_slowly_leave_ocr_its_room(home: Home) -> None:
    async def work(client: Client, models: Models) -> None:
        rest = asyncio.Event()
        sent = json.dumps(chat("caption", png("hello"))).encode()

        async def slowly() -> AsyncIterator[bytes]:
            yield sent[:20]
            await rest.wait()
            yield sent[20:]

        room = models.unsorted.bytes_limit // models.unsorted.largest_body
        chats = [
            asyncio.create_task(client.post("/v1/chat/completions", content=slowly())) for _ in range(room)
        ]
        await until(lambda: models.unsorted.bytes_held == models.unsorted.bytes_limit)
        assert (await client.post("/v1/ocr", content=png("hello"))).status_code == 200
        crowded = await client.post("/v1/chat/completions", json=chat("ocr", png("hello")))
        assert crowded.status_code == 429
        rest.set()
        assert {answer.status_code for answer in await asyncio.gather(*chats)} == {200}
        assert models.unsorted.bytes_held == 0

    with_captions(home, work)


def test_the_list_of_models_has_openais_shape(home: Home) -> None:
    home.serve("2", previous="1")

    async def work(client: Client, models: Models) -> None:
        listed = (await client.get("/v1/models")).json()
        assert listed["object"] == "list"
        assert [m["id"] for m in listed["data"]] == ["ocr", "ocr:2", "ocr:1", "caption", "caption:1"]
        registered = home.store.versions.get(MODEL, "2").created_at
        assert listed["data"][0] == {
            "id": "ocr",
            "object": "model",
            "created": int(registered),
            "owned_by": "redpencil",
        }

    with_captions(home, work)


def test_the_api_describes_captions_and_chat(home: Home) -> None:
    async def work(client: Client, _: Models) -> None:
        paths = (await client.get("/openapi.json")).json()["paths"]
        caption, ocr = paths["/v1/captions"]["post"], paths["/v1/ocr"]["post"]
        assert set(caption["requestBody"]["content"]) == set(ocr["requestBody"]["content"])
        asked = {p["name"] for p in caption["parameters"]}
        assert asked == {p["name"] for p in ocr["parameters"]} - {"mode"}
        chat = paths["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert "ignored" in chat["properties"]["max_tokens"]["description"]
        assert "/v1/models" in paths

    with_captions(home, work)
