"""Uploaded images as people look at them: upright pages and lines cut from them, as PNG."""

from __future__ import annotations

import threading
from collections import OrderedDict

import cv2
import numpy as np

from redpencil.blobs import Blobs
from redpencil.errors import NotFound
from redpencil.pixels import Pixels, crop_line, each_page, open_pages
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Polygon

KEPT_BYTES = 128 * 2**20
TURNS = 16
MEASURED = 2  # images that are decoded at once just to be looked at


class Pictures:
    """Decodes pages of stored images; the last few stay decoded, within `KEPT_BYTES`."""

    def __init__(self, store: Store, blobs: Blobs, settings: Settings) -> None:
        self._store, self._blobs, self._settings = store, blobs, settings
        self._kept: OrderedDict[tuple[str, int], Pixels] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = [threading.Lock() for _ in range(TURNS)]
        self._measuring = threading.Semaphore(MEASURED)

    def sizes(self, data: bytes, media_type: str) -> list[tuple[int, int]]:
        """Width and height of every page of an image that is not stored yet; refused if it cannot be read."""
        with self._measuring:
            pages = each_page(data, media_type, self._settings.max_pixels, self._settings.max_pages)
            return [(page.shape[1], page.shape[0]) for page in pages]

    def page(self, sha256: str, index: int) -> Pixels:
        """A page, upright. Who asks for one that is being decoded waits for it."""
        with self._turns[hash(sha256) % TURNS]:
            with self._lock:
                if (found := self._kept.get((sha256, index))) is not None:
                    self._kept.move_to_end((sha256, index))
                    return found
            page = self._decoded(sha256, index)
            self._keep((sha256, index), page)
            return page

    def _decoded(self, sha256: str, index: int) -> Pixels:
        if (image := self._store.images.get(sha256)) is None:
            raise NotFound(f"no image {sha256} is known here; send it for a prediction first")
        limits = self._settings.max_pixels, self._settings.max_pages
        (page,) = open_pages(self._blobs.get(sha256), image.media_type, *limits, only=index)
        return page

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

    def _keep(self, key: tuple[str, int], page: Pixels) -> None:
        with self._lock:
            self._kept[key] = page
            while len(self._kept) > 1 and sum(p.nbytes for p in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
