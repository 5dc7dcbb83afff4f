"""One frame of an image file as upright RGB, of whatever depth, colour and orientation.

OpenCV decodes the common formats (fast, and equal to Pillow there), Pillow the odd ones.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Pixels = NDArray[np.uint8]
"""H x W x 3, RGB, as it is meant to be looked at."""

EXIF_ORIENTATION = 0x0112
TIFF_BITS, TIFF_PHOTOMETRIC = 258, 262


def frame(image: Image.Image, data: bytes, index: int) -> Pixels:
    """The frame at which `image` stands, which is the one of that index in the file's bytes."""
    if _is_deep(image, data):
        deep = _deep(data, index)
        if deep is not None:
            if image.format == "PNG":
                return _upright(deep, image)
            return 255 - deep if _counts_from_white(image) else deep  # OpenCV turns TIFFs itself
    elif image.format in ("JPEG", "MPO", "PNG") and _is_plain(image):
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if pixels is not None:
            return _upright(pixels, image)
    image.load()
    return _to_rgb(ImageOps.exif_transpose(image))


def _is_plain(image: Image.Image) -> bool:
    return image.mode in ("L", "RGB") and "transparency" not in image.info


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether the channels have more than eight bits."""
    if image.format == "PNG":
        return data[24] == 16
    bits = getattr(image, "tag_v2", {}).get(TIFF_BITS, (8,))
    return image.format == "TIFF" and max(bits) == 16


def _counts_from_white(image: Image.Image) -> bool:
    return bool(getattr(image, "tag_v2", {}).get(TIFF_PHOTOMETRIC) == 0)


def _deep(data: bytes, index: int) -> Pixels | None:
    """A 16-bit frame on 8 bits, None where OpenCV cannot read it."""
    flags = cv2.IMREAD_UNCHANGED
    read, frames = cv2.imdecodemulti(np.frombuffer(data, np.uint8), flags, range=(index, index + 1))
    if not read or frames[0].dtype != np.uint16:
        return None
    levels = frames[0]
    if levels.ndim == 2:
        return np.repeat(_eight_bits(levels)[:, :, None], 3, axis=2)
    colours = _eight_bits(levels[:, :, :3])[:, :, ::-1]
    return _on_white(colours, levels[:, :, 3] / 65535) if levels.shape[2] == 4 else colours


def _eight_bits(levels: NDArray[Any]) -> Pixels:
    """Scale by the range in use: the smallest whole number of bits that holds the brightest pixel.

    A full-range scan comes out as its 8-bit twin would, and a 12-bit one is not left in the dark.
    """
    brightest = int(levels.max(initial=0))
    full = max((1 << brightest.bit_length()) - 1, 255)
    scaled: Pixels = np.rint(np.clip(levels, 0, None) * (255 / full)).astype(np.uint8)
    return scaled


def _on_white(colours: Pixels, alpha: NDArray[np.float64]) -> Pixels:
    opaque = alpha[:, :, None]
    return np.rint(colours * opaque + 255 * (1 - opaque)).astype(np.uint8)


def _upright(pixels: Pixels, image: Image.Image) -> Pixels:
    """Turn and mirror as the EXIF orientation says."""
    turned = {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p),
    }.get(image.getexif().get(EXIF_ORIENTATION, 1), lambda p: p)(pixels)
    return np.ascontiguousarray(turned)


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.repeat(_grey(image)[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return np.array(image.convert("RGB"))


def _grey(image: Image.Image) -> Pixels:
    levels = np.array(image)
    if image.mode == "F" and levels.max(initial=0) <= 1:
        levels = levels * 255
    return _eight_bits(np.nan_to_num(levels))
