"""Light changes: what another scan of the same line, or another photo of the same thing, might look like."""

from __future__ import annotations

import cv2
import numpy as np

from redpencil.pixels import Pixels

JPEG = ".jpg"


def augment(line: Pixels, rng: np.random.Generator, strength: float = 1.0) -> Pixels:
    """Another look at the same line; each kind of change comes in about half of the calls.

    Nothing is cut off that carries text, nothing is mirrored, and the order never changes.
    """
    for change in (_warp, _weight, _blur, _light, _noise, _compress):
        if rng.random() < 0.5:
            line = change(line, rng, strength)
    return line


def photo(image: Pixels, rng: np.random.Generator, strength: float = 1.0, upright: bool = True) -> Pixels:
    """Another look at the same scene: mirrored or not, a little nearer, in other light.

    Not for text. What has no up and down (aerial images) may also be turned by right angles.
    """
    if rng.random() < 0.5:
        image = image[:, ::-1]
    if not upright:
        image = np.rot90(image, int(rng.integers(4)))
    return _light(_nearer(np.ascontiguousarray(image), rng, strength), rng, strength)


def _nearer(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """A part of the image, stretched to its whole size."""
    height, width = image.shape[:2]
    low = max(0.5, 1 - 0.3 * strength)
    tall, wide = (round(size * rng.uniform(low, 1)) for size in (height, width))
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    part = np.ascontiguousarray(image[top : top + tall, left : left + wide])
    nearer: Pixels = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
    return nearer


def _warp(line: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Stretch in width, shear, a small slope, and a little room above or below."""
    height, width = line.shape[:2]
    stretch = np.exp(rng.normal(0, 0.08 * strength))
    shear = rng.normal(0, 0.08 * strength)
    slope = rng.normal(0, 0.03 * strength) * height / width
    zoom = 1 - abs(rng.normal(0, 0.06 * strength)) - abs(slope) * width / height * 0.5
    lift = (1 - zoom) * height * rng.random()
    turn = np.array(
        [[stretch, shear, -shear * height / 2], [slope, zoom, lift - slope * width / 2 * rng.random()]]
    )
    size = (max(8, round(width * stretch)), height)
    border = cv2.BORDER_REPLICATE
    warped: Pixels = cv2.warpAffine(line, turn, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return warped


def _weight(line: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Ink a bit bolder or thinner, by a partial erosion or dilation."""
    kernel = np.ones((2, 2), np.uint8)
    changed = (cv2.erode if rng.random() < 0.5 else cv2.dilate)(line, kernel)
    share = rng.uniform(0.2, 0.7) * min(strength, 1.4) * min(1.0, line.shape[0] / 40)
    weighted: Pixels = cv2.addWeighted(changed, share, line, 1 - share, 0)
    return weighted


def _blur(line: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    sigma = rng.uniform(0.2, 0.9) * strength * line.shape[0] / 40
    blurred: Pixels = cv2.GaussianBlur(line, (0, 0), max(sigma, 0.1))
    return blurred


def _light(line: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Contrast, brightness, and a gentle gradient along the line."""
    gain = np.exp(rng.normal(0, 0.15 * strength))
    ramp = np.linspace(-1, 1, line.shape[1])[None, :, None] * rng.normal(0, 10 * strength)
    lit = (line.astype(np.float32) - 128) * gain + 128 + rng.normal(0, 12 * strength) + ramp
    whole: Pixels = np.clip(lit, 0, 255).astype(np.uint8)
    return whole


def _noise(line: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    grain = rng.normal(0, rng.uniform(2, 10) * strength, line.shape[:2])[:, :, None]
    return np.clip(line + grain, 0, 255).astype(np.uint8)


def _compress(line: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    quality = int(np.clip(rng.uniform(40, 90) / strength, 15, 95)) if strength else 95
    _, data = cv2.imencode(JPEG, line, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def another_scan(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """A page or block as another scan might show it.

    Its corners only move inwards, so nothing is cut off or mirrored; blur and grain do not grow with
    the image, so small letters stay readable.
    """
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        inwards = rng.uniform(0, 0.03 * min(strength, 4), (4, 2)) * [(1, 1), (-1, 1), (-1, -1), (1, -1)]
        square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
        here, there = ((points * (width, height)).astype(np.float32) for points in (square, square + inwards))
        turn = cv2.getPerspectiveTransform(here, there)
        image = cv2.warpPerspective(
            image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), 0.1 + rng.uniform(0, 0.4) * min(strength, 2))
    if rng.random() < 0.5:
        grain = rng.normal(0, rng.uniform(1, 6) * strength, (height, width, 1))
        gain, lift = np.exp(rng.normal(0, 0.12 * strength)), rng.normal(0, 10 * strength)
        image = np.clip((image - 128.0) * gain + 128 + lift + grain, 0, 255).astype(np.uint8)
    return image
