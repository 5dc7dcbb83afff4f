"""The Open Inference Protocol v2 beside the own API: same reader, same journal, JSON tensors."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from redpencil import asgi
from redpencil.errors import BadInput, UnsupportedMedia
from redpencil.types import Prediction, Task
from serving.body import Asked, decoded, from_json, options_for
from serving.engine import Engine, whole
from serving.protocol import answer, schema_of, to_json
from serving.reader import Upload
from serving.upload import length_of, models_of, note, received, taken_apart, told

router = APIRouter(tags=["Open Inference Protocol v2"])
INPUTS = [
    {"name": "image", "datatype": "BYTES", "shape": [-1]},
    {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    {"name": "image", "datatype": "FP32", "shape": [-1, -1, -1, 3]},
]
OUTPUTS = [
    {"name": "text", "datatype": "BYTES", "shape": [-1]},
    {"name": "confidence", "datatype": "FP32", "shape": [-1]},
    {"name": "prediction_id", "datatype": "BYTES", "shape": [-1]},
    {"name": "answer", "datatype": "BYTES", "shape": [-1]},
]


class Tensor(BaseModel):
    """BYTES: encoded images, base64. UINT8 (0..255) or FP32 (0..1): pixels, [N, H, W, C] or [H, W, C]."""

    model_config = ConfigDict(extra="forbid")
    name: str = "image"
    shape: list[int] = Field(min_length=1, max_length=4)
    datatype: Literal["BYTES", "UINT8", "FP32"]
    data: list[Any]
    parameters: dict[str, Any] = {}


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Literal["text", "confidence", "prediction_id", "answer"]
    parameters: dict[str, Any] = {}


class InferBody(BaseModel):
    """`parameters` may hold mode (of OCR), client_key and group, as in POST /v1/ocr."""

    model_config = ConfigDict(extra="forbid")
    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[Tensor] = Field(min_length=1, max_length=1)
    outputs: list[Wanted] = []


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": schema_of(model)}}}}


@router.get("/v2")
async def server() -> dict[str, Any]:
    """Which server this is."""
    return {"name": "redpencil", "version": "2", "extensions": []}


@router.get("/v2/health/live")
async def live() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/v2/health/ready")
async def ready(request: Request) -> dict[str, bool]:
    """The OCR champion is loaded and warm; 503 before."""
    models_of(request).ocr.require_ready()
    return {"ready": True}


@router.get("/v2/models/{model}")
@router.get("/v2/models/{model}/versions/{version}")
async def metadata(request: Request, model: str, version: str | None = None) -> dict[str, Any]:
    """Versions at hand, inputs and outputs."""
    engine = await _known(request, model, version)
    versions = [version] if version else list(engine.state.readers)
    return {
        "name": model,
        "versions": versions,
        "platform": "onnxruntime_onnx",
        "inputs": INPUTS,
        "outputs": OUTPUTS,
    }


@router.get("/v2/models/{model}/ready")
@router.get("/v2/models/{model}/versions/{version}/ready")
async def model_ready(request: Request, model: str, version: str | None = None) -> dict[str, Any]:
    """Whether this model (and version) can answer; loads a registered version that is not at hand."""
    await _known(request, model, version)
    return {"name": model, "ready": True}


@router.post("/v2/models/{model}/infer", openapi_extra=_schema(InferBody))
@router.post("/v2/models/{model}/versions/{version}/infer", openapi_extra=_schema(InferBody))
async def infer(request: Request, model: str, version: str | None = None) -> Response:
    """Read images; a version in the path answers itself, outside of any experiment."""
    engine = models_of(request).of(model)
    note(request, engine)
    if "inference-header-content-length" in request.headers:
        raise UnsupportedMedia("binary tensors are not read here: send the tensors as JSON")
    with engine.admission.body(length_of(request)):
        sent = await received(request)
        body = await taken_apart(request, sent, from_json, InferBody, sent)
        client = asgi.as_sent(request.headers.get("x-client-key", ""))
        asked = await taken_apart(request, sent, _asked, engine.task, body, version, client)
        outcomes = await engine.read(asked, asgi.request_id_of(request.scope))
    predictions = [whole(outcome) for outcome in outcomes]  # a tensor has no room for one image's error
    return told(_answer(body, predictions), predictions)


async def _known(request: Request, model: str, version: str | None) -> Engine:
    engine = models_of(request).of(model)
    note(request, engine)
    if version is None:
        engine.require_ready()
    else:
        await engine.named(version)
    return engine


def _asked(task: Task, body: InferBody, version: str | None, client: str) -> Asked:
    said = {k: v for k, v in body.parameters.items() if k in ("mode", "client_key", "group")}
    options = options_for(task, {"model_version": version, "client_key": client, **said})
    tensor = body.inputs[0]
    encoded = _encoded(tensor) if tensor.datatype == "BYTES" else _pixels(tensor)
    if not encoded:
        raise BadInput("inputs.0.data holds no image")
    return Asked(tuple(Upload(data, None, options.group) for data in encoded), options)


def _encoded(tensor: Tensor) -> list[bytes]:
    if len(tensor.data) != int(np.prod(tensor.shape)):
        raise BadInput(f"inputs.0.data has {len(tensor.data)} elements, its shape says {tensor.shape}")
    if not all(isinstance(item, str) for item in tensor.data):
        raise BadInput("inputs.0.data: every BYTES element is an encoded image as a base64 string")
    return [decoded(item) for item in tensor.data]


def _pixels(tensor: Tensor) -> list[bytes]:
    """The pixels as PNG files, so that they are kept and corrected like any other image."""
    try:
        images = np.array(tensor.data, np.float64).reshape(tensor.shape)
    except (ValueError, TypeError, OverflowError) as exc:
        raise BadInput(f"inputs.0.data does not fit its shape {tensor.shape}: {exc}") from exc
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise BadInput(f"pixels are [N, H, W, C] or [H, W, C] with C 1 or 3; this is {tensor.shape}")
    top = 1 if tensor.datatype == "FP32" else 255
    if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= top):
        raise BadInput(f"{tensor.datatype} pixels lie in 0..{top}")
    return [_png(np.rint(image * (255 / top)).astype(np.uint8)) for image in images]


def _png(image: np.ndarray) -> bytes:
    done, data = cv2.imencode(".png", image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise BadInput("the pixels cannot be kept as an image")
    return data.tobytes()


def _answer(body: InferBody, predictions: list[Prediction]) -> dict[str, Any]:
    answers = [answer(p) for p in predictions]
    columns = {
        "text": [a["text"] for a in answers],
        "confidence": [_confidence(p) for p in predictions],
        "prediction_id": [p.id for p in predictions],
        "answer": [to_json(a).decode() for a in answers],
    }
    wanted = {str(w.name) for w in body.outputs} or set(columns)
    outputs = [
        {
            "name": o["name"],
            "datatype": o["datatype"],
            "shape": [len(answers)],
            "data": columns[str(o["name"])],
        }
        for o in OUTPUTS
        if o["name"] in wanted
    ]
    versions = sorted({p.version for p in predictions})
    told = {"model_name": predictions[0].model, "model_version": ", ".join(versions), "outputs": outputs}
    return told | ({"id": body.id} if body.id else {})


def _confidence(prediction: Prediction) -> float:
    """The mean over all characters, as for a single line."""
    chars = [c for block in prediction.blocks for c in block.char_confidence]
    return sum(chars) / len(chars) if chars else 0.0
