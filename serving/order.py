"""The order in which people read the lines of a page: columns, rows, and slanted pages.

Pure geometry. The page's own direction is that of most of its text, so a page that lies on its
side or on its head is ordered as it is read, not as it lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redpencil.types import Polygon

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

PROSE = 7.0  # a line of running text is at least so many line heights wide; prices and labels are not
LEAST_LINES = 3  # so many lines on each side make two columns
GUTTER = 0.5  # line heights of white between two columns
WHITE = 2.5  # line heights of white across the page that end one thing before the next begins
CANDIDATES = 8  # gutters looked at more closely


def reading_order(polygons: Sequence[Polygon], leftward: bool = False) -> list[int]:
    """Indices of the lines as they are read; lines that run another way than the page come last.

    A page that is read `leftward` has its columns, and what is in one row, from right to left.
    """
    if not polygons:
        return []
    corners = np.array(polygons, np.float64)
    with_page, angle = _page_direction(corners)
    boxes = _Boxes.of(corners, angle, leftward)
    blocks = [*_blocks(boxes, np.flatnonzero(with_page)), np.flatnonzero(~with_page)]
    return [int(i) for block in blocks for i in _arrange(boxes, block)]


@dataclass(frozen=True)
class _Boxes:
    """Upright boxes around the lines, once the page is turned or mirrored so that text runs to the right."""

    x0: Floats
    y0: Floats
    x1: Floats
    y1: Floats

    @classmethod
    def of(cls, corners: Floats, angle: float, leftward: bool) -> _Boxes:
        cos, sin = np.cos(angle), np.sin(angle)
        turned = corners @ np.array([[cos, -sin], [sin, cos]]) * (-1 if leftward else 1, 1)
        (x0, y0), (x1, y1) = turned.min(1).T, turned.max(1).T
        return cls(x0, y0, x1, y1)

    @property
    def middle(self) -> Floats:
        return (self.y0 + self.y1) / 2

    @property
    def height(self) -> Floats:
        return self.y1 - self.y0


def _page_direction(corners: Floats) -> tuple[NDArray[np.bool_], float]:
    """Which lines run the way most text of the page runs, and that way's angle."""
    along = corners[:, 1] - corners[:, 0]
    quarter = np.round(np.arctan2(along[:, 1], along[:, 0]) / (np.pi / 2)).astype(int) % 4
    lengths = np.linalg.norm(along, axis=1)
    most = np.bincount(quarter, weights=lengths, minlength=4).argmax()
    x, y = along[quarter == most].sum(0)
    return quarter == most, float(np.arctan2(y, x))


def _blocks(boxes: _Boxes, lines: Ints) -> list[Ints]:
    """From top to bottom, what white divides that runs across the whole page."""
    lines = lines[np.argsort(boxes.y0[lines], kind="stable")]
    white = boxes.y0[lines][1:] - np.maximum.accumulate(boxes.y1[lines])[:-1]
    return np.split(lines, np.flatnonzero(white > WHITE * np.median(boxes.height[lines])) + 1)


def _arrange(boxes: _Boxes, lines: Ints) -> Iterator[int]:
    gutter = _gutter(boxes, lines)
    if gutter is None:
        yield from _rows(boxes, lines)
        return
    for band in _bands(boxes, lines, gutter):
        left, right = _sides(boxes, band, gutter)
        if _are_columns(boxes, left, right):
            yield from _arrange(boxes, left)
            yield from _arrange(boxes, right)
        else:
            yield from _rows(boxes, band)


def _rows(boxes: _Boxes, lines: Ints) -> Iterator[int]:
    """Row by row, each from left to right."""
    row: list[int] = []
    for line in lines[np.argsort(boxes.middle[lines], kind="stable")]:
        if row and not _same_row(boxes, row[-1], line):
            yield from sorted(row, key=lambda i: boxes.x0[i])
            row = []
        row.append(line)
    yield from sorted(row, key=lambda i: boxes.x0[i])


def _same_row(boxes: _Boxes, above: int, line: int) -> bool:
    apart = boxes.middle[line] - boxes.middle[above]
    return bool(apart < 0.5 * min(boxes.height[line], boxes.height[above]))


def _gutter(boxes: _Boxes, lines: Ints) -> float | None:
    """Where white runs down between two columns of prose, None where there is no such place."""
    if len(lines) < 2 * LEAST_LINES:
        return None
    prose = _is_prose(boxes, lines)
    ends = boxes.x1[lines][prose] + _gap(boxes, lines) / 2
    score = [min(_count(boxes, side, prose, lines) for side in _sides(boxes, lines, x)) for x in ends]
    for best in np.argsort(score, kind="stable")[::-1][:CANDIDATES]:
        bands = _bands(boxes, lines, ends[best])
        if any(_are_columns(boxes, *_sides(boxes, band, ends[best])) for band in bands):
            return float(ends[best])
    return None


def _gap(boxes: _Boxes, lines: Ints) -> float:
    return GUTTER * float(np.median(boxes.height[lines]))


def _is_prose(boxes: _Boxes, lines: Ints) -> NDArray[np.bool_]:
    tall = float(np.median(boxes.height[lines]))
    wide: NDArray[np.bool_] = (boxes.x1 - boxes.x0)[lines] >= PROSE * tall
    return wide


def _count(boxes: _Boxes, side: Ints, prose: NDArray[np.bool_], lines: Ints) -> int:
    return int(np.isin(lines[prose], side).sum())


def _sides(boxes: _Boxes, lines: Ints, x: float) -> tuple[Ints, Ints]:
    """The lines that end before and those that start after the gutter at x."""
    half = _gap(boxes, lines) / 2
    return lines[boxes.x1[lines] <= x - half + 1e-6], lines[boxes.x0[lines] >= x + half - 1e-6]


def _bands(boxes: _Boxes, lines: Ints, x: float) -> Iterator[Ints]:
    """From top to bottom: what lies between the lines that cross the gutter, and these."""
    left, right = _sides(boxes, lines, x)
    beside = np.union1d(left, right)
    crossing = np.setdiff1d(lines, beside)
    above = np.searchsorted(np.sort(boxes.middle[crossing]), boxes.middle[beside])
    in_order = crossing[np.argsort(boxes.middle[crossing], kind="stable")]
    for band in range(len(crossing) + 1):
        if np.any(above == band):
            yield beside[above == band]
        if band < len(crossing):
            yield in_order[band : band + 1]


def _are_columns(boxes: _Boxes, left: Ints, right: Ints) -> bool:
    """Both sides hold lines of running text, and beside one another."""
    if min(len(left), len(right)) < LEAST_LINES:
        return False
    both = np.concatenate([left, right])
    prose = both[_is_prose(boxes, both)]
    if any(2 * np.isin(side, prose).sum() < max(len(side), 2 * LEAST_LINES - 1) for side in (left, right)):
        return False
    top = max(boxes.y0[left].min(), boxes.y0[right].min())
    bottom = min(boxes.y1[left].max(), boxes.y1[right].max())
    shorter = min(np.ptp(boxes.middle[left]), np.ptp(boxes.middle[right]))
    return bool(bottom - top >= 0.5 * shorter)
