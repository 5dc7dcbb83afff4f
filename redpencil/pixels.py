"""Image bytes to pages, pages to lines, lines to what a model takes.

Serving and training both come through here, so a model meets the same pixels in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil, hypot
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from redpencil.errors import BadInput
from redpencil.formats import each_page, is_heavy, open_pages
from redpencil.frames import Pixels
from redpencil.types import Polygon

__all__ = [
    "Pixels",
    "Preprocessing",
    "crop_line",
    "each_page",
    "is_heavy",
    "on_canvas",
    "open_pages",
    "to_tensor",
    "whole",
]

MARGIN_PX = 4  # of page around a line that is resampled
WARP_PX = 16_000  # OpenCV warps nothing above 32,767 px
STRIP = 4  # times as long as what is cut out of its middle
SQUARE_PX = 0.5  # corners this near to an upright rectangle are cut out, not resampled


@dataclass(frozen=True)
class Preprocessing:
    """What a bundle declares about its input; `mean` and `std` are of channel values in 0..1.

    With a `width` every image becomes height x width: stretched, or scaled to fit and padded
    ("pad"), or scaled to cover and cut at the middle ("crop"). Without one, width follows the line.
    What is padded becomes `pad_value`, a normalised value; None is white.
    """

    height: int
    channels: Literal["rgb", "bgr", "gray"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    width_scale: float = 1.0
    width_multiple: int = 1
    min_width: int = 16
    max_width: int = 4096
    pad_value: float | None = 0.0
    width: int | None = None
    fit: Literal["stretch", "pad", "crop"] = "stretch"

    def __post_init__(self) -> None:
        depth = 1 if self.channels == "gray" else 3
        if self.channels not in ("rgb", "bgr", "gray") or len(self.mean) != depth or len(self.std) != depth:
            raise BadInput(f"{self.channels!r} input needs one mean and one std per channel")
        if min(self.height, self.min_width, self.width_multiple) < 1 or self.max_width < self.min_width:
            raise BadInput("height and widths must be positive, and max_width at least min_width")
        if self.width_scale <= 0 or min(self.std) <= 0:
            raise BadInput("width_scale and std must be positive")
        if (self.width is not None and self.width < 1) or self.fit not in ("stretch", "pad", "crop"):
            raise BadInput("width must be positive, and fit one of stretch, pad, crop")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`, also after a trip through JSON."""
        plain: dict[str, Any] = {**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])}
        return cls(**plain)

    def width_for(self, line: Pixels) -> int:
        """How wide a line becomes, before padding."""
        height, width = line.shape[:2]
        wide: int = ceil(width * self.height * self.width_scale / height)
        return max(1, min(self.max_width, wide))


def whole(page: Pixels) -> Polygon:
    """The polygon that covers all of a page."""
    height, width = page.shape[:2]
    return ((0, 0), (width, 0), (width, height), (0, height))


def crop_line(page: Pixels, polygon: Polygon) -> Pixels:
    """One line cut out of an upright page, turned so that it reads from left to right.

    The polygon's first corner is the line's own top left, so a line that runs down the page, or
    stands on its head, comes out upright. What lies beyond the page is left out; a polygon that
    covers the whole page returns the page.
    """
    corners = _on_page(page, polygon)
    upright = _upright_box(corners)
    return _cut(page, upright) if upright else _warp(page, corners)


def to_tensor(line: Pixels, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """An image as float32 [C, H, W]: scaled, normalised, padded on the right (and below)."""
    p = preprocessing
    scaled = _channels(scaled_for(line, p), p.channels)
    height, width = scaled.shape[:2]
    padded = p.width or -(-max(width, p.min_width) // p.width_multiple) * p.width_multiple
    tensor = np.empty((len(p.mean), p.height, padded), np.float32)
    for channel, (mean, std) in enumerate(zip(p.mean, p.std, strict=True)):
        paper = (1 - mean) / std if p.pad_value is None else p.pad_value
        tensor[channel, :, width:] = paper
        tensor[channel, height:] = paper
        plane = tensor[channel, :height, :width]
        np.multiply(scaled[:, :, channel], np.float32(1 / (255 * std)), out=plane)
        plane -= np.float32(mean / std)
    return tensor


def on_canvas(image: Pixels, preprocessing: Preprocessing) -> Pixels:
    """The image on white paper of height x width, 8-bit RGB: what `to_tensor` would normalise.

    Without a width the paper is as wide as the line.
    """
    scaled = scaled_for(image, preprocessing)
    sheet = np.full((preprocessing.height, preprocessing.width or scaled.shape[1], 3), 255, np.uint8)
    sheet[: scaled.shape[0], : scaled.shape[1]] = scaled
    return sheet


def scaled_for(image: Pixels, preprocessing: Preprocessing) -> Pixels:
    """The image at the size at which a model takes it, not yet padded."""
    p = preprocessing
    if p.width is None:
        return _scale(image, p.width_for(image), p.height)
    if p.fit == "stretch":
        return _scale(image, p.width, p.height)
    if p.fit == "crop":
        image = _shorter(image, p.height, p.width)
    height, width = image.shape[:2]
    shares = p.height / height, p.width / width
    share = min(shares) if p.fit == "pad" else max(shares)
    scaled = _scale(image, max(1, round(width * share)), max(1, round(height * share)))
    return _middle(scaled, p.height, p.width)


def _middle(image: Pixels, height: int, width: int) -> Pixels:
    """What of the middle fits into height x width."""
    top, left = max(0, image.shape[0] - height) // 2, max(0, image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _shorter(image: Pixels, height: int, width: int) -> Pixels:
    """The middle of a long strip: the whole of it would be scaled up to cover height x width, and cut off."""
    share = STRIP * min(image.shape[0] / height, image.shape[1] / width)
    return _middle(image, ceil(share * height), ceil(share * width))


def _channels(line: Pixels, channels: str) -> Pixels:
    if channels == "bgr":
        return line[:, :, ::-1]
    if channels == "rgb":
        return line
    return np.expand_dims(cv2.cvtColor(line, cv2.COLOR_RGB2GRAY), 2)


def _scale(line: Pixels, width: int, height: int) -> Pixels:
    """Large shrinking averages all pixels: sampling a few of them would let the paper's grain through."""
    how = cv2.INTER_AREA if line.shape[0] >= 2 * height else cv2.INTER_LINEAR
    scaled: Pixels = cv2.resize(np.ascontiguousarray(line), (width, height), interpolation=how)
    return scaled


def _on_page(page: Pixels, polygon: Polygon) -> NDArray[np.float32]:
    """The corners, clockwise, within the page."""
    if len(polygon) != 4:
        raise BadInput(f"a line has four corners, this polygon has {len(polygon)}")
    size = page.shape[1], page.shape[0]
    corners = np.array(polygon, np.float64)
    if not np.isfinite(corners).all() or not _meets(corners, size):
        raise BadInput(f"the polygon {polygon} lies outside the page ({size[0]} x {size[1]} px)")
    corners = corners.clip(0, size)
    area = _area(corners)
    if area == 0:
        raise BadInput(f"the polygon {polygon} covers nothing of the page")
    return (corners if area > 0 else corners[[0, 3, 2, 1]]).astype(np.float32)


def _meets(corners: NDArray[np.float64], size: tuple[int, int]) -> bool:
    return bool((corners.min(0) < size).all() and (corners.max(0) > 0).all())


def _area(corners: NDArray[np.float64]) -> float:
    """Positive where the corners run clockwise, as seen on a page whose y runs down."""
    x, y = corners.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _upright_box(corners: NDArray[np.float32]) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 where the polygon is an upright rectangle that starts at its top left."""
    x0, y0 = corners[[0, 3], 0].mean(), corners[[0, 1], 1].mean()
    x1, y1 = corners[[1, 2], 0].mean(), corners[[2, 3], 1].mean()
    square = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if x1 <= x0 or y1 <= y0 or np.abs(square - corners).max() > SQUARE_PX:
        return None
    return round(x0), round(y0), round(x1), round(y1)


def _cut(page: Pixels, box: tuple[int, int, int, int]) -> Pixels:
    x0, y0 = min(box[0], page.shape[1] - 1), min(box[1], page.shape[0] - 1)
    return page[y0 : max(box[3], y0 + 1), x0 : max(box[2], x0 + 1)]


def _warp(page: Pixels, corners: NDArray[np.float32]) -> Pixels:
    page, corners = _surroundings(page, corners)
    a, b, c, d = corners
    width = max(round(max(hypot(*(b - a)), hypot(*(c - d)))), 1)
    height = max(round(max(hypot(*(d - a)), hypot(*(c - b)))), 1)
    target = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    turn = cv2.getPerspectiveTransform(corners, target)
    line: Pixels = cv2.warpPerspective(
        page, turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return line


def _surroundings(page: Pixels, corners: NDArray[np.float32]) -> tuple[Pixels, NDArray[np.float32]]:
    """The part of the page around a line, shrunk where it is longer than OpenCV can warp."""
    height, width = page.shape[:2]
    x0, y0 = (corners.min(0) - MARGIN_PX).clip(0, (width - 1, height - 1)).astype(int)
    x1, y1 = (corners.max(0) + MARGIN_PX).clip(1, (width, height)).astype(int)
    part, moved = page[y0:y1, x0:x1], corners - np.array([x0, y0], np.float32)
    extent = float(max(*part.shape[:2], *np.ptp(moved, axis=0)))
    if extent <= WARP_PX:
        return part, moved
    scale = WARP_PX / extent
    return cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), moved * np.float32(scale)
