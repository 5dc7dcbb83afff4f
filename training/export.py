"""From a trained model to a bundle: an FP32 graph equal to the model, and its INT8 twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from redpencil.bundle import Graph, Manifest
from redpencil.errors import BadInput, RedpencilError
from redpencil.gate import ABSOLUTE_MARGIN, RELATIVE_MARGIN
from redpencil.language import Language
from redpencil.metrics import distance
from redpencil.pixels import Pixels, Preprocessing, to_tensor
from redpencil.reader import OUTPUTS, LineReader, read_parallel
from redpencil.types import Precision
from training.as_before import as_before
from training.probe import Image
from training.quantize import Twin, careful, in_int8
from training.recipe import LineModel
from training.to_onnx import to_onnx

CLOSE = 1e-3  # a probability of torch and ONNX Runtime may differ by so much
TIES = 0.01  # and so many of the steps may name another class, as near ties do
FREE = {
    "image": {0: "B", 3: "W"},
    "indices": {0: "B", 1: "T"},
    "probabilities": {0: "B", 1: "T"},
    "own": {0: "B"},
}
CALIBRATE, CONTROL = 48, 160  # lines
FEWEST_CONTROL = 8
LEAST_INT8 = 0.75
"""Of the work of the layers that INT8 is for: with less of it the gate would refuse a version as too slow."""


class Labelled(Protocol):
    """A line image (H x W x 3) with its text."""

    @property
    def image(self) -> Pixels: ...
    @property
    def text(self) -> str: ...


def to_bundle(model: LineModel, folder: Path, lines: Sequence[Labelled], lineage: dict[str, Any]) -> Manifest:
    """Write a model as a bundle into an existing folder.

    Raises RedpencilError where ONNX Runtime does not answer as torch does. Of `lines` some
    calibrate the INT8 graph and others measure what it loses. What the model has of the bundle that it
    goes on from is rounded as there, unless that loses too much. Where INT8 loses more than the gate
    allows the bundle's own precision is FP32, and the gate chooses between both.
    """
    if not lines:
        raise BadInput("an export needs at least one line to check the graph with")
    calibrate, control = _drawn(lines)
    images = [_image(line, model.preprocessing) for line in calibrate]
    module = model.export_module()
    write_graph(module, folder / "fp32.onnx", images[0])
    graphs = {Precision.FP32: Graph.of(folder / "fp32.onnx")}
    manifest = Manifest(model.preprocessing, model.alphabet, graphs, Precision.FP32, lineage)
    manifest.save(folder)
    agree(module, LineReader(folder), images)
    manifest = _with_int8(folder, manifest, images, control, model.before)
    return with_language(folder, manifest, model.language) if model.language else manifest


def with_language(folder: Path, manifest: Manifest, language: Language) -> Manifest:
    """The bundle with its language: last, since lines that it was counted in hide what INT8 loses."""
    if language.pieces:
        lineage = manifest.lineage | {"language_characters": language.characters}
        manifest = replace(manifest, language=language.save(folder), lineage=lineage)
    if language.words:
        manifest = replace(manifest, words=language.words.save(folder))
    if language.own_words:
        manifest = replace(manifest, own_words=language.own_words.save(folder))
    manifest.save(folder)
    return manifest


def write_graph(module: nn.Module, path: Path, image: Image) -> None:
    """A line reader's ONNX file (see `LineReader`)."""
    with torch.no_grad():
        given = len(module(torch.from_numpy(image)))
    example = torch.from_numpy(np.concatenate([image, image]))
    path.write_bytes(to_onnx(module, (example,), ["image"], OUTPUTS[:given], FREE, fold=True))


def agree(module: nn.Module, reader: LineReader, images: Sequence[Image]) -> None:
    """Raise where torch and ONNX Runtime differ on these lines, alone or in batches of three."""
    widths = sorted(images, key=lambda image: image.shape[-1])
    chosen = [widths[i * (len(widths) - 1) // 3] for i in range(4)]
    for image in chosen:
        _compare(module, reader, image)
        _compare(module, reader, np.concatenate([image, image[..., ::-1], image / 2]))


def _compare(module: nn.Module, reader: LineReader, images: Image) -> None:
    with torch.inference_mode():
        wanted = [t.numpy() for t in module(torch.from_numpy(np.ascontiguousarray(images)))]
    indices, probabilities, _ = reader.infer(images)
    where = f"on images of shape {list(images.shape)}"
    if indices.shape != wanted[0].shape:
        raise RedpencilError(f"torch answers {wanted[0].shape}, its ONNX graph {indices.shape} {where}")
    apart = float(np.abs(probabilities - wanted[1]).max())
    rows = (slice(None), slice(None)) + (0,) * (indices.ndim - 2)  # behind the best class are many ties
    other = float((indices[rows] != wanted[0][rows]).mean())
    if not apart <= CLOSE or other > TIES:
        raise RedpencilError(
            f"torch and ONNX Runtime differ by {apart:.1e} in probability and name another class "
            f"at {other:.1%} of the steps {where}"
        )


def _with_int8(
    folder: Path,
    manifest: Manifest,
    images: Sequence[Image],
    control: Sequence[Labelled],
    before: Path | None,
) -> Manifest:
    """The bundle with the INT8 graph that loses little, or least of those that are quick enough."""
    exact = _errors(folder, control)
    characters = sum(len(line.text) for line in control)
    allowed = max(RELATIVE_MARGIN * sum(exact), ABSOLUTE_MARGIN * characters)
    with Twin(folder / "fp32.onnx", images) as twin:

        def loss(graph: onnx.ModelProto | None) -> float:
            _save(folder, manifest, graph)
            return beyond_chance(np.subtract(_errors(folder, control), exact))

        alike = _alike(twin, folder / "fp32.onnx", before)
        if alike and loss(alike) <= allowed:
            return _save(folder, manifest, alike)
        layers, lost = careful(twin.parts, lambda some: loss(_of(twin, some)), allowed, twin.work, LEAST_INT8)
        found = _save(folder, manifest, _of(twin, layers))
    if lost > allowed:
        found = replace(found, precision=Precision.FP32)
        found.save(folder)
    return found


def _alike(twin: Twin, exact: Path, before: Path | None) -> onnx.ModelProto | None:
    """The graph with what it shares with that of a bundle before rounded as there, if anything is."""
    if before is None or Precision.INT8 not in (graphs := Manifest.load(before).graphs):
        return None
    its = {precision: onnx.load(before / graph.file) for precision, graph in graphs.items()}
    return as_before(twin, onnx.load(exact), its[Precision.INT8], its[Precision.FP32])


def _of(twin: Twin, layers: Sequence[str]) -> onnx.ModelProto | None:
    return twin.model(layers) if layers else None


def _save(folder: Path, manifest: Manifest, graph: onnx.ModelProto | None) -> Manifest:
    """The bundle with this INT8 graph, or with none."""
    path = folder / "int8.onnx"
    path.unlink(missing_ok=True)
    if graph:
        onnx.save(graph, path)
        graphs = manifest.graphs | {Precision.INT8: Graph.of(path)}
        lineage = manifest.lineage | {"int8_layers": in_int8(graph.graph)}
        manifest = replace(manifest, graphs=graphs, precision=Precision.INT8, lineage=lineage)
    manifest.save(folder)
    return manifest


def beyond_chance(changes: NDArray[Any]) -> float:
    """Characters lost over all lines, less one standard error: some are lost and won by chance."""
    return float(changes.sum() - np.sqrt(np.square(changes).sum()))


def _errors(folder: Path, lines: Sequence[Labelled]) -> list[int]:
    """Wrong characters per line of the bundle as it stands, in the precision it is to be served in."""
    found = read_parallel(LineReader(folder), [line.image for line in lines], torch.get_num_threads())
    return [distance(line.text, reading.text) for line, reading in zip(lines, found, strict=True)]


def _drawn(lines: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """Lines to calibrate on and others to measure the loss on; too few leave none to measure."""
    order = np.random.default_rng(0).permutation(len(lines))
    cut = min(CALIBRATE, len(lines) if len(lines) < 2 * FEWEST_CONTROL else len(lines) // 2)
    shuffled = [lines[i] for i in order]
    return shuffled[:cut], shuffled[cut : cut + CONTROL]


def _image(line: Labelled, preprocessing: Preprocessing) -> Image:
    return to_tensor(line.image, preprocessing)[None]
