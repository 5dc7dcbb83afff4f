"""Uploaded images as people look at them: upright pages and lines cut from them, as PNG."""

from __future__ import annotations

import threading
from collections import OrderedDict

import cv2
import numpy as np

from redpencil.blobs import Blobs
from redpencil.errors import BadInput, NotFound
from redpencil.pixels import Pixels, crop_line, open_pages
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Polygon

KEPT_BYTES = 128 * 2**20


class Pictures:
    """Decodes stored images; the last few stay decoded, within `KEPT_BYTES`."""

    def __init__(self, store: Store, blobs: Blobs, settings: Settings) -> None:
        self._store, self._blobs, self._settings = store, blobs, settings
        self._kept: OrderedDict[str, list[Pixels]] = OrderedDict()
        self._lock = threading.Lock()

    def pages(self, sha256: str) -> list[Pixels]:
        with self._lock:
            if sha256 in self._kept:
                self._kept.move_to_end(sha256)
                return self._kept[sha256]
        if (image := self._store.images.get(sha256)) is None:
            raise NotFound(f"no image {sha256} is known here; send it for a prediction first")
        data = self._blobs.get(sha256)
        pages = open_pages(data, image.media_type, self._settings.max_pixels, self._settings.max_pages)
        self._keep(sha256, pages)
        return pages

    def page(self, sha256: str, index: int) -> Pixels:
        pages = self.pages(sha256)
        if index >= len(pages):
            raise BadInput(f"the image has {len(pages)} page(s), counted from 0; there is no page {index}")
        return pages[index]

    def png(self, sha256: str, index: int, polygon: Polygon | None = None, width: int | None = None) -> bytes:
        """A page, or a line of it turned upright, no wider than `width` px."""
        picture = self.page(sha256, index)
        if polygon is not None:
            picture = crop_line(picture, polygon)
        if width is not None and picture.shape[1] > width:
            height = max(1, round(picture.shape[0] * width / picture.shape[1]))
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        done, png = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR))
        assert done
        return bytes(png)

    def _keep(self, sha256: str, pages: list[Pixels]) -> None:
        with self._lock:
            self._kept[sha256] = pages
            while sum(p.nbytes for kept in self._kept.values() for p in kept) > KEPT_BYTES:
                self._kept.popitem(last=False)
