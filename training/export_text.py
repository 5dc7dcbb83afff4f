"""From an image-to-text model to a bundle: encoder and decoder graphs that write what torch writes.

The INT8 twin has the encoder's heavy layers in static INT8, fitted on images, and the decoder's
matrices in dynamic INT8. What it loses is measured; where that is more than allowed the encoder goes
back to FP32, and then there is none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from redpencil import generate
from redpencil.bundle import Graph, Manifest
from redpencil.caption_metrics import nearest
from redpencil.errors import BadInput, RedpencilError
from redpencil.generate import TextReader
from redpencil.pixels import Pixels, to_tensor
from redpencil.types import Precision
from training import dynamic_int8
from training.crops import Line
from training.export import beyond_chance
from training.image_to_text import ImageToText
from training.quantize import Twin
from training.to_onnx import to_onnx
from training.torch_decoder import MEMORY, NEW, PAST, TorchDecoder

log = logging.getLogger(__name__)

ALLOWED = 0.01  # of the wrong words may come to them by INT8, beyond chance; one word in any case
CLOSE = 1e-3  # the probability of a token in torch and in ONNX Runtime may differ by so much
CHECKED, CALIBRATE, CONTROL = 4, 24, 64  # images
LOOKED_AT = CALIBRATE + CONTROL


def to_bundle(model: ImageToText, folder: Path, lines: Sequence[Line], lineage: dict[str, Any]) -> Manifest:
    """Write a model as a bundle into an existing folder.

    Raises RedpencilError where ONNX Runtime writes other tokens than torch. Images of `lines`
    calibrate the INT8 graphs and measure what they lose.
    """
    shown = images_of(lines)
    if not shown:
        raise BadInput("an export needs at least one image to check the graphs with")
    model.eval().cpu()
    tensors = [to_tensor(image, model.preprocessing)[None] for image, _ in shown[:CALIBRATE]]
    write_graphs(model, folder, torch.from_numpy(tensors[0]))
    (folder / "tokenizer.json").write_text(model.tokenizer.to_str(), "utf-8")
    manifest = Manifest(
        model.preprocessing,
        (),
        {Precision.FP32: Graph.of(folder / "encoder.fp32.onnx")},
        Precision.FP32,
        lineage | {"shape": model.shape},
        decoder="autoregressive",
        decoders={Precision.FP32: Graph.of(folder / "decoder.fp32.onnx")},
        tokenizer=Graph.of(folder / "tokenizer.json"),
        generation=model.generation,
    )
    manifest.save(folder)
    agree(model, TextReader(folder), [image for image, _ in shown[:CHECKED]])
    return with_int8(folder, manifest, tensors, shown[-CONTROL:])


def images_of(lines: Iterable[Line]) -> list[tuple[Pixels, list[str]]]:
    """Images with all their texts, in an order that is drawn once for all: as many as an export looks at."""
    ordered = sorted(lines, key=lambda line: line.image_id)
    found = [list(here) for _, here in groupby(ordered, key=lambda line: line.image_id)]
    order = np.random.default_rng(0).permutation(len(found))
    if len(order) > LOOKED_AT:
        order = np.concatenate([order[: LOOKED_AT - CONTROL], order[-CONTROL:]])
    return [(found[i][0].image, [line.text for line in found[i]]) for i in order]


class Encoder(nn.Module):
    """Image -> memory, as a graph."""

    def __init__(self, model: ImageToText) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        memory = self.model.encode(self.model.features(image))
        return tuple(memory[name] for name in sorted(memory))


class Step(nn.Module):
    """Tokens, memory and past -> logits behind the last token, and what is new, as a graph."""

    def __init__(self, model: ImageToText, memory: Sequence[str]) -> None:
        super().__init__()
        self.model, self.memory = model, memory

    def forward(self, tokens: Tensor, length: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        memory = dict(zip(self.memory, rest, strict=False))
        past = dict(zip(self.model.past_shapes, rest[len(self.memory) :], strict=True))
        logits, new = self.model.decode(tokens, length, memory, past)
        return logits[:, -1], *(new[name] for name in self.model.past_shapes)


def write_graphs(model: ImageToText, folder: Path, image: Tensor) -> None:
    """encoder.fp32.onnx and decoder.fp32.onnx, weights inside under the names they have in the model."""
    with torch.no_grad():
        memory = model.encode(model.features(image))
    names = sorted(memory)
    outputs = [MEMORY + name for name in names]
    _write(Encoder(model), (torch.cat([image, image]),), folder / "encoder.fp32.onnx", ["image"], outputs)
    # Two rows, two tokens and a past of three, so that nothing is taken for a constant of one.
    past = [torch.zeros(2, heads, 3, size) for heads, size in model.past_shapes.values()]
    given = (torch.ones(2, 2, dtype=torch.long), torch.tensor([3, 2]), *_twice(memory, names), *past)
    inputs = ["tokens", "length", *outputs, *(PAST + name for name in model.past_shapes)]
    answers = ["logits", *(NEW + name for name in model.past_shapes)]
    _write(Step(model, names), given, folder / "decoder.fp32.onnx", inputs, answers)


def _twice(memory: dict[str, Tensor], names: Sequence[str]) -> list[Tensor]:
    return [torch.cat([memory[name], memory[name]]) for name in names]


def _write(
    module: nn.Module, given: tuple[Tensor, ...], path: Path, inputs: list[str], outputs: list[str]
) -> None:
    axes: dict[str, dict[int, str]] = {name: {0: "B"} for name in (*inputs, *outputs)}
    axes |= {name: {0: "B", 1: "S"} for name in inputs if name == "tokens"}
    axes |= {name: {0: "B", 2: "T"} for name in inputs if name.startswith(PAST)}
    axes |= {name: {0: "B", 2: "S"} for name in outputs if name.startswith(NEW)}
    path.write_bytes(to_onnx(module.eval(), given, inputs, outputs, axes))


def agree(model: ImageToText, reader: TextReader, images: Sequence[Pixels]) -> None:
    """Raise where torch and ONNX Runtime write other tokens, alone or together."""
    tensors = np.stack([to_tensor(image, model.preprocessing) for image in images])
    with torch.inference_mode():
        memory = model.encode(model.features(torch.from_numpy(tensors)))
    named = {MEMORY + name: value.numpy() for name, value in memory.items()}
    wanted = generate.generate(TorchDecoder(model), named, model.generation)
    alone = [reader.write(tensor[None])[0] for tensor in tensors]
    for found in (reader.write(tensors), alone):
        for (tokens, sure), (given, likely) in zip(wanted, found, strict=True):
            _same(tokens, sure, given, likely)


def _same(tokens: list[int], sure: list[float], given: list[int], likely: list[float]) -> None:
    if tokens != given and not _tie(tokens, sure, given, likely):
        raise RedpencilError(f"torch writes the tokens {tokens}, its ONNX graphs {given}")
    apart = max((abs(a - b) for a, b in zip(sure, likely, strict=False)), default=0.0)
    if tokens == given and apart > CLOSE:
        raise RedpencilError(f"torch and ONNX Runtime differ by {apart:.1e} in a token's probability")


def _tie(tokens: list[int], sure: list[float], given: list[int], likely: list[float]) -> bool:
    """Whether they part at a token that was as probable as the other, as in an untrained model."""
    at = next((i for i, (a, b) in enumerate(zip(tokens, given, strict=False)) if a != b), None)
    return at is not None and abs(sure[at] - likely[at]) < CLOSE / 10


def with_int8(
    folder: Path,
    manifest: Manifest,
    tensors: Sequence[Any],
    control: Sequence[tuple[Pixels, list[str]]],
) -> Manifest:
    """The bundle with INT8 graphs that lose little, or as it is where there are none."""
    exact = wrong(folder, control)
    allowed = max(1.0, ALLOWED * sum(exact))
    dynamic_int8.write(folder / "decoder.fp32.onnx", folder / "decoder.int8.onnx")
    for layers in _encoder_choices(folder, tensors):
        made = _with(folder, manifest, layers)
        lost = beyond_chance(np.subtract(wrong(folder, control), exact))
        if lost <= allowed:
            return made
        log.info(
            "INT8 of the decoder and %d encoder layers loses %.1f words, %.1f may be", layers, lost, allowed
        )
    for name in ("encoder.int8.onnx", "decoder.int8.onnx"):
        (folder / name).unlink(missing_ok=True)
    manifest.save(folder)
    return manifest


def _encoder_choices(folder: Path, tensors: Sequence[Any]) -> Iterable[int]:
    """Writes encoder.int8.onnx with all its heavy layers in INT8, then with none; says how many."""
    source, target = folder / "encoder.fp32.onnx", folder / "encoder.int8.onnx"
    with Twin(source, tensors) as twin:
        if twin.layers:
            onnx.save(twin.model(twin.layers), target)
            yield len(twin.layers)
    target.write_bytes(source.read_bytes())
    yield 0


def _with(folder: Path, manifest: Manifest, layers: int) -> Manifest:
    made = replace(
        manifest,
        precision=Precision.INT8,
        graphs=manifest.graphs | {Precision.INT8: Graph.of(folder / "encoder.int8.onnx")},
        decoders=manifest.decoders | {Precision.INT8: Graph.of(folder / "decoder.int8.onnx")},
        lineage=manifest.lineage | {"int8_layers": layers},
    )
    made.save(folder)
    return made


def wrong(folder: Path, control: Sequence[tuple[Pixels, list[str]]]) -> list[int]:
    """Wrong words per image against its nearest text, in the precision that the bundle is to be served in."""
    reader = TextReader(folder)
    return [nearest(texts, reader.read(image).text)[0] for image, texts in control]
