"""A line cut out roughly, by hand or round a slope, made as tight and level as printed lines are.

A reader sees a line at a fixed height. Where the crop is much higher than its letters, or the line
climbs, letters become too small to tell apart.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from redpencil.pixels import Pixels

STEEPEST, STEP = 0.16, 0.01  # rise over width that is looked for
LEVEL = 0.012  # below it a line is level
LOOKED_AT_PX = 400  # width at which the slope is looked for
FAINT = 0.15  # darker than the paper by this share, and it is ink
STRAY = 0.02  # share of the ink above, and below, that is of other lines
MARGIN = 0.08  # of the height that is kept, on either side
LEAST_PX, HIGHEST_PX, WIDEST_PX = 8, 320, 8000  # of what is straightened

Ink = NDArray[np.float32]


def straightened(line: Pixels) -> Pixels:
    """The line level, without what is above and below its letters; itself where nothing is to be done."""
    small = _small(line)
    ink = _ink(small)
    if not ink.any():
        return line
    level, slope = small, _slope(ink) if small.shape[1] <= WIDEST_PX else 0.0
    if abs(slope) >= LEVEL:
        level = _level(small, slope)
        ink = _ink(level)
    tight = _tight(level, ink)
    return line if tight is small else tight


def _small(line: Pixels) -> Pixels:
    """No higher than is of use: a reader takes some 48 px."""
    share = HIGHEST_PX / line.shape[0]
    if share >= 1:
        return line
    size = max(1, round(line.shape[1] * share)), HIGHEST_PX
    smaller: Pixels = cv2.resize(line, size, interpolation=cv2.INTER_AREA)
    return smaller


def _ink(line: Pixels) -> Ink:
    """How much darker each pixel is than the paper around it, 0 to 1."""
    grey = cv2.cvtColor(line, cv2.COLOR_RGB2GRAY).astype(np.float32)
    paper = cv2.GaussianBlur(cv2.dilate(grey, np.ones((9, 9))), (0, 0), 8)
    share = ((paper - grey) / np.maximum(paper, 1)).clip(0, 1)
    return np.where(share > FAINT, share, 0).astype(np.float32)


def _slope(ink: Ink) -> float:
    """Rise over width of the line: at it, and at no other, rows are either full of ink or empty."""
    small = min(1.0, LOOKED_AT_PX / ink.shape[1])
    ink = np.asarray(cv2.resize(ink, None, fx=small, fy=small, interpolation=cv2.INTER_AREA), np.float32)
    slopes = np.arange(-STEEPEST, STEEPEST + STEP / 2, STEP)
    return float(max(slopes, key=lambda slope: (_contrast(ink, slope), -abs(slope))))


def _contrast(ink: Ink, slope: float) -> float:
    rows = cv2.warpAffine(ink, _shear(slope, ink.shape[1]), (ink.shape[1], ink.shape[0])).sum(1)
    return float(np.square(np.diff(rows)).sum())


def _shear(slope: float, width: int, down: int = 0) -> NDArray[np.float32]:
    return np.array([[1, 0, 0], [-slope, 1, slope * width / 2 + down]], np.float32)


def _level(line: Pixels, slope: float) -> Pixels:
    height, width = line.shape[:2]
    more = int(abs(slope) * width / 2)
    how = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    sheared: Pixels = cv2.warpAffine(line, _shear(slope, width, more), (width, height + 2 * more), **how)
    return sheared


def _tight(line: Pixels, ink: Ink) -> Pixels:
    """Without the rows that hold next to nothing."""
    so_far = ink.sum(1).cumsum()
    if so_far[-1] == 0:
        return line
    top, below = np.searchsorted(so_far / so_far[-1], (STRAY, 1 - STRAY)).tolist()
    margin = max(1, int(MARGIN * (below + 1 - top)))
    top, below = max(0, top - margin), min(len(so_far), below + 1 + margin)
    return line[top:below] if LEAST_PX < below - top < len(so_far) else line
