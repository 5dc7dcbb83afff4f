"""The Open Inference Protocol: images and pixels in, texts out, and what there is to ask."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import serving_parts
from serving_parts import Client, Home, b64, png

from serving.engine import Engine

Work = Callable[[Client, Engine], Awaitable[None]]


def serving(home: Home, work: Work) -> None:
    """Run the app of this home, and the work against its OCR model."""
    serving_parts.serving(home, lambda client, models: work(client, models.ocr))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.serve("1")
    return home


def test_the_open_inference_protocol_reads_encoded_images_and_pixels(home: Home) -> None:
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(png("hi"), np.uint8), cv2.IMREAD_COLOR_RGB)
    tensors: list[dict[str, Any]] = [
        {"name": "image", "datatype": "BYTES", "shape": [2], "data": [b64(png("hi")), b64(png("hi"))]},
        {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()},
        {
            "name": "image",
            "datatype": "FP32",
            "shape": [1, *pixels.shape],
            "data": (pixels / 255).ravel().tolist(),
        },
    ]

    async def work(client: Client, _: Engine) -> None:
        for tensor in tensors:
            answer = await client.post("/v2/models/ocr/infer", json={"id": "a", "inputs": [tensor]})
            body = answer.json()
            assert answer.status_code == 200, body
            assert (body["model_name"], body["model_version"], body["id"]) == ("ocr", "1", "a")
            outputs = {o["name"]: o for o in body["outputs"]}
            count = 2 if tensor["datatype"] == "BYTES" else 1
            assert outputs["text"] == {
                "name": "text",
                "datatype": "BYTES",
                "shape": [count],
                "data": ["hi"] * count,
            }
            assert home.store.predictions.get(outputs["prediction_id"]["data"][0]).blocks[0].text == "hi"
            assert json.loads(outputs["answer"]["data"][0])["text"] == "hi"
        path = "/v2/models/ocr/versions/2/infer"
        asked = {"inputs": tensors[:1], "outputs": [{"name": "text"}]}
        body = (await client.post(path, json=asked)).json()
        assert (body["model_version"], [o["name"] for o in body["outputs"]]) == ("2", ["text"])

    serving(home, work)


@pytest.mark.parametrize(
    "tensor",
    [
        {"datatype": "BYTES", "shape": [0], "data": []},
        {"datatype": "FP32", "shape": [1, 1, 1], "data": [10**400]},
    ],
)
def test_tensors_without_an_image_are_a_clients_error(home: Home, tensor: dict[str, Any]) -> None:
    async def work(client: Client, _: Engine) -> None:
        answer = await client.post("/v2/models/ocr/infer", json={"inputs": [{"name": "image", **tensor}]})
        assert answer.status_code == 422

    serving(home, work)


def test_the_open_inference_protocol_tells_what_there_is(home: Home) -> None:
    async def work(client: Client, _: Engine) -> None:
        ok = {
            "/v2": "name",
            "/v2/models/ocr": "inputs",
            "/v2/models/ocr/versions/3": "outputs",
            "/v2/models/ocr/ready": "ready",
            "/v2/models/ocr/versions/2/ready": "ready",
        }
        for path, field in ok.items():
            assert field in (await client.get(path)).json(), path
        for path in ("/v2/models/other", "/v2/models/ocr/versions/77", "/v2/models/ocr/versions/77/ready"):
            assert (await client.get(path)).status_code == 404, path
        bad: list[dict[str, Any]] = [
            {},
            {"inputs": []},
            {"inputs": [{"name": "image", "datatype": "INT64", "shape": [1], "data": [1]}]},
            {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": ["aa"]}]},
            {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [2, 2], "data": [1, 2, 3, 4]}]},
            {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 999]}]},
            {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 3], "data": [1, "x", 0]}]},
        ]
        for body in bad:
            answer = await client.post("/v2/models/ocr/infer", json=body)
            assert (answer.status_code, answer.json()["error"]["type"]) == (422, "bad_input"), answer.text

    serving(home, work)
