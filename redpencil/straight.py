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
FULL = 0.5  # of the fullest row's ink: such rows are the body of the letters
ABOVE, BELOW = 1.0, 0.8  # heights of the body that the tallest and the deepest letters may reach beyond it
LITTLE = 0.25  # of the fullest row's ink: with more no row is between lines
MIDDLE = 0.5  # by so much less do the outermost rows count, which may be those of other lines
RULE = 2.0  # heights of the crop: what is level and longer is no letter
MARGIN = 0.08  # of the letters' height that is kept, on either side
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
    paper = [int(channel) for channel in np.percentile(line.reshape(-1, 3), 75, axis=0)]
    sheared: Pixels = cv2.warpAffine(
        line,
        _shear(slope, width, more),
        (width, height + 2 * more),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=paper,
    )
    return sheared


def _tight(line: Pixels, ink: Ink) -> Pixels:
    """Without what is above and below the letters: margins, rules, parts of other lines."""
    rows = np.where(_rules(ink), 0, ink).sum(1)
    if not rows.any():
        return line
    top, below = _letters(rows)
    margin = max(1, int(MARGIN * (below - top)))
    top, below = max(0, top - margin), min(len(rows), below + margin)
    return line[top:below] if LEAST_PX < below - top < len(rows) else line


def _rules(ink: Ink) -> NDArray[np.bool_]:
    """Which pixels are of level strokes that are longer than letters."""
    there = cv2.morphologyEx((ink > 0).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((1, 3), np.uint8))
    length = int(max(RULE * len(ink), 12))
    if length >= ink.shape[1]:
        return np.zeros(ink.shape, np.bool_)
    found = cv2.morphologyEx(there, cv2.MORPH_OPEN, np.ones((1, length), np.uint8))
    return np.asarray(cv2.dilate(found, np.ones((3, 1), np.uint8)) > 0)


def _letters(rows: NDArray[np.float32]) -> tuple[int, int]:
    """Where the letters of the line begin, and end, by how much ink each row has.

    Their body is where rows are full, and fullest about the middle; what rises above it and hangs below it
    ends where there is least ink.
    """
    size = max(1, len(rows) // 24)
    smooth = np.convolve(rows, np.full(size, 1 / size), "same")
    middle = (len(rows) - 1) / 2
    weight = 1 - MIDDLE * np.abs(np.arange(len(rows)) - middle) / max(1.0, middle)
    full = np.flatnonzero(smooth * weight > FULL * (smooth * weight).max())
    runs = np.split(full, np.flatnonzero(np.diff(full) > 1) + 1)
    body = max(runs, key=lambda run: float((smooth * weight)[run].sum()))
    first, last = int(body[0]), int(body[-1]) + 1
    little = LITTLE * float(smooth.max())
    above = _until(smooth[:first][::-1], int(ABOVE * len(body)), little)
    return first - above, last + _until(smooth[last:], int(BELOW * len(body)), little)


def _until(rows: NDArray[np.float32], reach: int, little: float) -> int:
    """How many of the rows belong to the letters: those before the one with least ink within reach, or,
    where that is not little, before the first with little beyond it."""
    near = rows[: reach + 1]
    if len(near) and near.min() <= little:
        return int(near.argmin())
    beyond = np.flatnonzero(rows <= little)
    return int(beyond[0]) if len(beyond) else len(rows)
