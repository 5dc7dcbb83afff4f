"""From a page to its lines, each turned upright, in reading order."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from redpencil.pixels import Pixels, Preprocessing, crop_line, to_tensor
from redpencil.types import Polygon
from serving.detect import DETECTOR, Network, regions, text_map
from serving.order import reading_order

LINE_PX = 100  # nothing higher is taken for a single line ...
LINE_RATIO = 12.0  # ... unless it is so many times wider than high
BLANK = 0.03  # a row with less than this share of the darkest row's ink is white
LINE_SHARE = 0.2  # of two lines in one image each is at least so high ...
INK_SHARE = 0.5  # ... and has so much of the other's ink

STANDS = 2.0  # text runs up or down where a region is so many times higher than lines are thick
DIRECTION = "ch_ppocr_mobile_v2.0_cls_mobile.onnx"
LOOKED_AT = Preprocessing(48, "bgr", (0.5,) * 3, (0.5,) * 3, min_width=192, max_width=192)
LOOKED_AT_RATIO = 6  # from the middle of a line, so many times wider than high
# The longest lines vote on whether they stand on their heads: a few, and more where these waver.
LEAST_VOTERS, FEW_VOTERS, MANY_VOTERS = 3, 9, 30
NOT_AT_ALL = 0.4  # a mean vote of the few below this settles it
ON_ITS_HEAD = 0.7  # mean vote of the many; upright pages of print and handwriting stay below


class Detector:
    """Finds the lines of pages; safe to call from many threads. `threads` is what one page may use."""

    def __init__(self, threads: int = 1) -> None:
        self._text = Network(DETECTOR, threads)
        self._direction = Network(DIRECTION, threads)

    def find_lines(self, page: Pixels) -> list[Polygon]:
        """The lines of a page in reading order, none where it is empty.

        A polygon's first corner is its line's own top left, so `crop_line` gives it upright also
        where the page, or the line, lies on its side or stands on its head.
        """
        corners = regions(text_map(self._text, page), *page.shape[:2])
        polygons = self._turned(page, corners)
        return [polygons[i] for i in reading_order(polygons)]

    def is_single_line(self, page: Pixels) -> bool:
        """Whether the image is one line of text and needs no detection."""
        return is_single_line(page)

    def warm(self) -> None:
        """Run once, so that the first page is as quick as the rest."""
        self.find_lines(np.full((320, 320, 3), 255, np.uint8))

    def _turned(self, page: Pixels, corners: NDArray[np.float32]) -> list[Polygon]:
        """Each region's corners from its text's own top left."""
        standing = _standing(corners)
        turns = np.where(standing, 1, 0)
        for way, enough, least in ((0, ON_ITS_HEAD, LEAST_VOTERS), (1, 0.5, 1)):
            lines = [_polygon(c, way) for c in corners[turns == way]]
            if len(lines) >= least and self._upside_down(page, lines, enough):
                turns[turns == way] += 2
        return [_polygon(c, turn) for c, turn in zip(corners, turns, strict=True)]

    def _upside_down(self, page: Pixels, polygons: list[Polygon], enough: float) -> bool:
        longest = sorted(polygons, key=_length, reverse=True)
        few = self._votes(page, longest[:FEW_VOTERS])
        if np.mean(few) < NOT_AT_ALL:
            return False
        many = self._votes(page, longest[FEW_VOTERS:MANY_VOTERS])
        return float(np.mean(few + many)) > enough

    def _votes(self, page: Pixels, polygons: list[Polygon]) -> list[float]:
        """How surely each line stands on its head, 0..1."""
        if not polygons:
            return []
        lines = [to_tensor(_middle(crop_line(page, polygon)), LOOKED_AT) for polygon in polygons]
        return [float(vote) for vote in self._direction(np.stack(lines))[:, 1]]


def is_single_line(page: Pixels) -> bool:
    """Low or very wide, and not two lines with white between them."""
    height, width = page.shape[:2]
    return (height <= LINE_PX or width >= LINE_RATIO * height) and not _has_two_lines(page)


def _has_two_lines(page: Pixels) -> bool:
    grey = cv2.cvtColor(page, cv2.COLOR_RGB2GRAY)
    _, light = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    paper = light.mean() >= 0.5
    ink = (light != paper).mean(axis=1)
    edges = np.diff(np.concatenate([[0], ink > BLANK * max(ink.max(), 1e-9), [0]]).astype(int))
    bands = zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
    lines = sorted(ink[top:end].sum() for top, end in bands if end - top >= LINE_SHARE * len(ink))
    return len(lines) > 1 and lines[-2] >= INK_SHARE * lines[-1]


def _standing(corners: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which regions hold text that runs up or down; a short one, such as a 1, goes with the page."""
    wide = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)
    high = np.linalg.norm(corners[:, 3] - corners[:, 0], axis=1)
    thick = np.median(np.minimum(wide, high)) if len(corners) else 0.0
    stands = high > STANDS * np.maximum(wide, thick)
    lies = wide > STANDS * np.maximum(high, thick)
    sideways = high[stands].sum() > wide[lies].sum()
    turned: NDArray[np.bool_] = stands | (sideways & ~lies)
    return turned


def _polygon(corners: NDArray[np.float32], turn: int) -> Polygon:
    return tuple((float(x), float(y)) for x, y in np.roll(corners, -turn, axis=0))


def _length(polygon: Polygon) -> float:
    (x0, y0), (x1, y1) = polygon[:2]
    return float(np.hypot(x1 - x0, y1 - y0))


def _middle(line: Pixels) -> Pixels:
    height, width = line.shape[:2]
    cut = max(0, (width - LOOKED_AT_RATIO * height) // 2)
    return line[:, cut : width - cut]
