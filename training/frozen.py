"""The part of a model that does not learn: its features of many lines, as fast as the machine gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import onnxruntime
import torch
from torch import Tensor, nn

from redpencil.pixels import Pixels, to_tensor
from redpencil.session import session_options
from training.recipe import LineModel
from training.to_onnx import to_onnx

T = TypeVar("T")


class Frozen:
    """`model.features` of single lines; each is computed alone, so that nothing pads it.

    On a CPU ONNX Runtime computes them, a line per thread: twice as fast as torch, whose threads
    would share each small convolution. Elsewhere the model does. Where nothing is frozen they are the image,
    which is not sent to a GPU and back: that would wait for whatever learns there.
    """

    def __init__(self, model: LineModel) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.frozen = type(model).features is not LineModel.features
        self.session = _session(model) if self.frozen and self.device.type == "cpu" else None

    def of(self, image: Pixels) -> Tensor:
        """The features of one line, [...,V] on the CPU."""
        tensor = to_tensor(image, self.model.preprocessing)[None]
        if not self.frozen:
            return torch.from_numpy(tensor)[0]
        if self.session is None:
            return self.model.features(torch.from_numpy(tensor).to(self.device))[0].cpu()
        (found,) = self.session.run(None, {"image": tensor})
        return torch.from_numpy(found[0])

    def map(self, image_of: Callable[[T], Pixels], items: Iterable[T]) -> list[Tensor]:
        """The features, in half precision, of the image of every item; several at once."""
        with ThreadPoolExecutor(torch.get_num_threads() if self.session else 1) as threads:
            return list(threads.map(lambda item: self.of(image_of(item)).half(), items))


class _Features(nn.Module):
    def __init__(self, model: LineModel) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)  # the exporter puts it, and the model in it, back into this mode

    def forward(self, image: Tensor) -> Tensor:
        return self.model.features(image)


def _session(model: LineModel) -> onnxruntime.InferenceSession:
    p = model.preprocessing
    example = torch.zeros(1, len(p.mean), p.height, 4 * p.height)
    axes = {"image": {3: "W"}, "features": {model.features(example).ndim - 1: "V"}}
    graph = to_onnx(_Features(model), (example,), ["image"], ["features"], axes, fold=True)
    return onnxruntime.InferenceSession(graph, session_options(1), providers=["CPUExecutionProvider"])
