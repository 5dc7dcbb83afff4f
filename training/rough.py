"""What real crops have and rendered lines lack: no margin, narrow or faint print, dots, rules, neighbours."""

from __future__ import annotations

import cv2
import numpy as np

from redpencil.pixels import Pixels
from training.texts import Rng

INK = 0.35  # of the darkest ink: a row with less is margin


def rough(line: Pixels, rng: Rng) -> Pixels:
    """The same line as a receipt's printer or a form may show it; what is written stays readable.

    Places along the line stay where they are, as parts of its width.
    """
    for change, share in CHANGES:
        if rng.random() < share:
            line = change(line, rng)
    return line


def _trimmed(line: Pixels, rng: Rng) -> Pixels:
    """Cut above and below, at most as far as there is ink."""
    rows = _ink(line)
    inked = np.flatnonzero(rows > INK * rows.max())
    first, last = int(inked[0]), int(inked[-1])
    top, bottom = rng.integers(first + 1), len(rows) - rng.integers(len(rows) - last)
    return line[top:bottom] if bottom - top >= 8 else line


def _ink(line: Pixels) -> np.ndarray:
    """How dark the darkest spot of each row is, against its paper."""
    grey = cv2.GaussianBlur(line[:, :, 0], (3, 3), 0).astype(np.float32)
    return np.asarray(np.median(grey) - np.percentile(grey, 2, axis=1)).clip(1e-3)


def _loose(line: Pixels, rng: Rng) -> Pixels:
    """More paper above and below."""
    above, below = (round(line.shape[0] * share) for share in rng.uniform(0, 0.5, 2))
    paper = [float(np.median(line))] * 3
    return np.asarray(cv2.copyMakeBorder(line, above, below, 0, 0, cv2.BORDER_CONSTANT, value=paper))


def _tilted(line: Pixels, rng: Rng) -> Pixels:
    """Running up or down, on as much paper as that takes."""
    height, width = line.shape[:2]
    rise = float(rng.normal(0, 0.15)) * min(height, 0.15 * width)
    room, paper = round(abs(rise) / 2), [float(np.median(line))] * 3
    turn = np.array([[1, 0, 0], [rise / width, 1, room - rise / 2]])
    size = (width, height + 2 * room)
    return np.asarray(cv2.warpAffine(line, turn, size, borderMode=cv2.BORDER_CONSTANT, borderValue=paper))


def _ruled(line: Pixels, rng: Rng) -> Pixels:
    """Printed rules along the edges: under the line, above it, as the frame of a field."""
    height, width = line.shape[:2]
    thick = max(1, round(height * rng.uniform(0.02, 0.07)))
    off = int(rng.integers(0, thick + 1))
    start, end = (0, width) if rng.random() < 0.6 else np.sort(rng.integers(0, width + 1, 2))
    ruled = line.copy()
    for rows, share in ((slice(height - thick - off, height - off), 0.8), (slice(off, off + thick), 0.4)):
        if rng.random() < share:
            ruled[rows, start:end] = line.min()
    if rng.random() < 0.3:
        ruled[:, off : off + thick] = line.min()
    return ruled


def _crowded(line: Pixels, rng: Rng) -> Pixels:
    """The feet of the line above, or the heads of the one below, at its edge."""
    height = line.shape[0]
    deep = max(1, round(height * rng.uniform(0.05, 0.15)))
    middle = height // 2
    crowded = np.roll(line, int(rng.integers(line.shape[1])), axis=1)
    if rng.random() < 0.5:
        return np.concatenate([crowded[middle : middle + deep], line[deep // 2 :]])
    return np.concatenate([line[: height - deep // 2], crowded[middle - deep : middle]])


def _dotted(line: Pixels, rng: Rng) -> Pixels:
    """Rows and columns of dots, as of a needle or thermal printer."""
    height, width = line.shape[:2]
    rows = int(rng.integers(14, 22))
    small = cv2.resize(line, (max(4, round(width * rows / height)), rows), interpolation=cv2.INTER_AREA)
    dots = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    pitch, paper = height / rows, np.float32(np.median(line))
    near = [np.abs((np.arange(n) / pitch) % 1 - 0.5) < rng.uniform(0.3, 0.5) for n in (height, width)]
    inked = (near[0][:, None] & near[1][None])[:, :, None]
    dotted: Pixels = np.where(inked, dots, (0.6 * paper + 0.4 * dots)).astype(np.uint8)
    return dotted


def _faint(line: Pixels, rng: Rng) -> Pixels:
    """Ink that is hardly darker than its paper."""
    paper = np.float32(np.median(line))
    return (paper + (line - paper) * rng.uniform(0.2, 0.8)).clip(0, 255).astype(np.uint8)


def _narrow(line: Pixels, rng: Rng) -> Pixels:
    """Print that is narrower, or wider."""
    height, width = line.shape[:2]
    share = float(np.exp(rng.normal(-0.12, 0.22)).clip(0.5, 1.4))
    return np.asarray(
        cv2.resize(line, (max(8, round(width * share)), height), interpolation=cv2.INTER_AREA), np.uint8
    )


CHANGES = (
    (_trimmed, 0.4),
    (_loose, 0.35),
    (_tilted, 0.3),
    (_crowded, 0.2),
    (_ruled, 0.25),
    (_dotted, 0.12),
    (_faint, 0.3),
    (_narrow, 0.6),
)
"""Each with the share of lines that it comes to, in this order."""
