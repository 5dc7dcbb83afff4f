"""Where the text of a page is: the detection network of the rapidocr package, and its output as boxes.

The network says for every pixel how surely it lies in the core of a text line. Connected cores
become rotated rectangles, grown back by what the training of such networks ("differentiable
binarisation") had shrunk them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from redpencil.errors import NotReady
from redpencil.pixels import Pixels

Floats = NDArray[np.float32]

DETECTOR = "PP-OCRv6_det_small.onnx"
MOST_PIXELS = 1_800_000  # a page of print is legible to the network at 1600 x 1130
FEWEST_PIXELS = 750_000  # smaller pages are enlarged, small print on them is missed otherwise ...
LARGEST_SCALE = 2.0  # ... but not by more than this
STRIDE = 32  # the network's sides are multiples of this
CORE = 0.5  # probability from which a pixel is core
SURE = 0.5  # mean probability from which a rectangle is text
GROWTH = 1.4  # times area / perimeter, on every side
LEAST_PX = 3.0  # thinner cores are noise
MOST_LINES = 2000  # of more, the largest are kept: a page of noise must not take minutes


def model_path(file: str) -> Path:
    """Where the installed rapidocr package keeps a model; the package itself is not imported."""
    spec = find_spec("rapidocr")
    if spec is None or not spec.submodule_search_locations:
        raise NotReady("the package rapidocr, which holds the text detector, is not installed")
    return Path(spec.submodule_search_locations[0]) / "models" / file


class Network:
    """An ONNX graph with one image input and one output, on the CPU; safe to call from many threads."""

    def __init__(self, file: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # hardly two pages have the same size: it only costs memory
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = str(model_path(file))
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, images: Floats) -> Floats:
        """Run on [B, C, H, W]."""
        answer: Any = self._session.run(None, {self._input: images})[0]
        return np.asarray(answer, np.float32)


def text_map(network: Network, page: Pixels) -> Floats:
    """The probability of text, [H, W], at the size the network saw the page."""
    height, width = page.shape[:2]
    area = height * width
    scale = min(max(1.0, (FEWEST_PIXELS / area) ** 0.5), LARGEST_SCALE, (MOST_PIXELS / area) ** 0.5)
    size = tuple(_strides(side * scale) * STRIDE for side in (width, height))
    image = cv2.dnn.blobFromImage(page, 1 / 127.5, size, (127.5, 127.5, 127.5), swapRB=True)
    probability: Floats = network(image)[0, 0]
    return probability


def _strides(side: float) -> int:
    return min(max(1, round(side / STRIDE)), MOST_PIXELS // STRIDE**2)


def regions(probability: Floats, height: int, width: int) -> Floats:
    """Text rectangles as corners [N, 4, 2] in pixels of the page of that size.

    Corners run clockwise from the one nearest the page's top left, whichever way the text runs.
    """
    cores = (probability > CORE).astype(np.uint8)
    contours, nesting = cv2.findContours(cores, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = (
        [c for c, inside in zip(contours, nesting[0, :, 3], strict=True) if inside < 0] if contours else []
    )
    rectangles = [_upright(cv2.minAreaRect(contour)) for contour in outer]
    kept = [r for r in rectangles if min(r[2], r[3]) >= LEAST_PX and _mean(probability, r) >= SURE]
    kept = sorted(kept, key=lambda r: -r[2] * r[3])[:MOST_LINES]
    corners = np.array([_corners(_grown(r)) for r in kept], np.float32).reshape(-1, 4, 2)
    corners *= (width / probability.shape[1], height / probability.shape[0])
    return corners.clip(0, (width, height))


Rectangle = tuple[float, float, float, float, float]
"""Centre x, y, extent along, extent across, and slant in degrees, -45 to 45."""


def _upright(rectangle: Any) -> Rectangle:
    (x, y), (along, across), slant = rectangle
    while slant > 45:
        along, across, slant = across, along, slant - 90
    while slant <= -45:
        along, across, slant = across, along, slant + 90
    return x, y, along, across, slant


def _grown(rectangle: Rectangle) -> Rectangle:
    x, y, along, across, slant = rectangle
    more = GROWTH * along * across / (along + across)
    return x, y, along + more, across + more, slant


def _corners(rectangle: Rectangle) -> Floats:
    x, y, along, across, slant = rectangle
    cos, sin = np.cos(np.radians(slant)), np.sin(np.radians(slant))
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    corners: Floats = (x, y) + (signs * (along / 2, across / 2)) @ np.array([(cos, sin), (-sin, cos)])
    return corners


def _mean(probability: Floats, rectangle: Rectangle) -> float:
    """The mean probability within a rectangle."""
    corners = _corners(rectangle)
    height, width = probability.shape
    x0, y0 = np.floor(corners.min(0)).astype(int).clip(0, (width - 1, height - 1))
    x1, y1 = np.ceil(corners.max(0)).astype(int).clip(0, (width - 1, height - 1))
    inside = np.zeros((y1 - y0 + 1, x1 - x0 + 1), np.uint8)
    cv2.fillPoly(inside, [(corners - (x0, y0)).astype(np.int32)], 1)
    return float(cv2.mean(probability[y0 : y1 + 1, x0 : x1 + 1], inside)[0])
