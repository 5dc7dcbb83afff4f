"""From an uploaded image to blocks of text with one version of a model.

A single line is decoded and read in one go. A page is cut into lines by the detector, and each
line is read alone (on a GPU: with others of exactly its width), so that no answer depends on what
else is being read.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np

from redpencil.direction import runs_left
from redpencil.pixels import Pixels, crop_line, each_page, is_heavy, open_pages, whole
from redpencil.reader import LineReader
from redpencil.reader import Reader as BundleReader
from redpencil.types import Block, LineText, Page, Polygon
from serving.order import reading_order
from serving.pool import Lane, Pool

Mode = Literal["auto", "line", "page"]
C = TypeVar("C")
LIKELY_PAGE_BYTES = 256 * 1024  # what is larger queues with the pages before it is looked at
GPU_BATCH = 32
SEARCH_THREADS = 4  # of the lines of one page; more gain little


@dataclass(frozen=True)
class Reader:
    """One version, loaded and warm."""

    version: str
    bundle: BundleReader


@dataclass(frozen=True)
class Upload:
    """One image as it came, and what the client said about it."""

    data: bytes
    media_type: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Reading:
    """What was read; `seconds` counts from the first look to the last line."""

    pages: tuple[Page, ...]
    blocks: tuple[Block, ...]
    seconds: float


class LineFinder(Protocol):
    """Finds the lines of a page; `serving.pages` has the real one."""

    def find_lines(self, page: Pixels) -> Sequence[Polygon]: ...

    def is_single_line(self, page: Pixels) -> bool: ...


@dataclass(frozen=True)
class Limits:
    max_pixels: int
    max_pages: int


class Desk:
    """Reads images on a pool, a fair share of it for each; of a document two pages are in memory at most."""

    def __init__(self, pool: Pool, finder: LineFinder, limits: Limits) -> None:
        self._pool, self._finder, self._limits = pool, finder, limits
        self._documents = asyncio.Semaphore(min(pool.cores, 4))
        self._again = asyncio.Semaphore(1)
        self._searches = asyncio.Semaphore(max(1, pool.cores // SEARCH_THREADS))

    async def read(
        self, upload: Upload, mode: Mode, choose: Callable[[str], tuple[Reader, C]]
    ) -> tuple[str, C, Reading]:
        """The image's sha256, what `choose` (given it) said beside the reader, and what was read."""
        lane = self._pool.lane()
        if mode == "page" or (mode == "auto" and len(upload.data) > LIKELY_PAGE_BYTES):
            sha256 = await lane.run(_sha256, upload.data)
            reader, chosen = choose(sha256)
            return sha256, chosen, await self._document(lane, upload, mode, reader)
        sha256, reader, chosen, reading = await lane.run(self._glance, upload, mode, choose)
        return sha256, chosen, reading or await self._document(lane, upload, mode, reader)

    async def read_again(self, upload: Upload, first: Reading, reader: Reader) -> Reading:
        """The same regions with another version, for comparison; when nobody else needs the pool."""
        lane = self._pool.lane(spare=True)
        async with self._again:
            started, read = time.perf_counter(), []
            async for index, page in self._pages(lane, upload):
                regions = [b.polygon for b in first.blocks if b.page == index]
                read.append(_page(index, page, regions, await self._texts(lane, page, regions, reader)))
            return _reading(read, started)

    def _glance(
        self, upload: Upload, mode: Mode, choose: Callable[[str], tuple[Reader, C]]
    ) -> tuple[str, Reader, C, Reading | None]:
        """Read it at once if it is a single line; if not, it waits until a page may come in."""
        started = time.perf_counter()
        sha256 = _sha256(upload.data)
        reader, chosen = choose(sha256)
        if is_heavy(upload.data):
            return sha256, reader, chosen, None
        limits = self._limits
        pages = open_pages(upload.data, upload.media_type, limits.max_pixels, limits.max_pages)
        if len(pages) > 1 or not self._one_line(pages[0], mode):
            return sha256, reader, chosen, None
        read = _page(0, pages[0], [whole(pages[0])], [reader.bundle.read(pages[0])])
        return sha256, reader, chosen, _reading([read], started)

    async def _document(self, lane: Lane, upload: Upload, mode: Mode, reader: Reader) -> Reading:
        async with self._documents:
            started, read = time.perf_counter(), []
            async for index, page in self._pages(lane, upload):
                regions = await self._regions(lane, page, mode)
                texts = await self._texts(lane, page, regions, reader)
                read.append(_page(index, page, *await _as_read(lane, regions, texts)))
            return _reading(read, started)

    async def _pages(self, lane: Lane, upload: Upload) -> AsyncIterator[tuple[int, Pixels]]:
        """The pages of a document, each decoded when the one before has been read."""
        limits, index = self._limits, 0
        pages = each_page(upload.data, upload.media_type, limits.max_pixels, limits.max_pages)
        while (page := await lane.run(next, pages, None)) is not None:
            yield index, page
            index += 1

    async def _regions(self, lane: Lane, page: Pixels, mode: Mode) -> Sequence[Polygon]:
        if await lane.run(self._one_line, page, mode):
            return [whole(page)]
        async with self._searches:
            return await lane.run(self._lines_of, page)

    async def _texts(
        self, lane: Lane, page: Pixels, polygons: Sequence[Polygon], reader: Reader
    ) -> Sequence[LineText]:
        if isinstance(reader.bundle, LineReader) and reader.bundle.device == "cuda":
            return await lane.run(_read_by_width, page, polygons, reader.bundle)
        lines = [lane.run(_read_one, page, polygon, reader.bundle) for polygon in polygons]
        try:
            return await asyncio.gather(*lines)
        finally:
            for line in lines:  # of a failed or cancelled request the rest is not worth reading
                line.cancel()

    def _lines_of(self, page: Pixels) -> list[Polygon]:
        """In hundredths of a pixel, before anything is cut: as they are kept, so they were read."""
        return [
            tuple((round(x, 2), round(y, 2)) for x, y in polygon) for polygon in self._finder.find_lines(page)
        ]

    def _one_line(self, page: Pixels, mode: Mode) -> bool:
        return mode == "line" or (mode == "auto" and self._finder.is_single_line(page))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read_one(page: Pixels, polygon: Polygon, reader: BundleReader) -> LineText:
    return reader.read(crop_line(page, polygon))


def _read_by_width(page: Pixels, polygons: Sequence[Polygon], lines: LineReader) -> list[LineText]:
    """Lines whose tensors are equally wide go together; none is padded to fit another."""
    cut = [crop_line(page, polygon) for polygon in polygons]
    tensors = [lines.tensor(line) for line in cut]
    by_width: dict[int, list[int]] = {}
    for i, tensor in enumerate(tensors):
        by_width.setdefault(tensor.shape[2], []).append(i)
    texts: dict[int, LineText] = {}
    for members in by_width.values():
        for start in range(0, len(members), GPU_BATCH):
            batch = members[start : start + GPU_BATCH]
            answers = zip(*lines.infer(np.stack([tensors[i] for i in batch])), strict=True)
            texts.update(zip(batch, (lines.text(*answer) for answer in answers), strict=True))
    return [lines.surer(line, texts[i]) for i, line in enumerate(cut)]


async def _as_read(
    lane: Lane, polygons: Sequence[Polygon], texts: Sequence[LineText]
) -> tuple[Sequence[Polygon], Sequence[LineText]]:
    """A page's lines in the order in which its script is read, which is known once they are."""
    if not runs_left(" ".join(text.text for text in texts)):
        return polygons, texts
    order = await lane.run(reading_order, polygons, True)
    return [polygons[i] for i in order], [texts[i] for i in order]


def _kept(confidences: tuple[float, ...]) -> tuple[float, ...]:
    """As exact as the database keeps them, so that an answer is the same when asked for again."""
    return tuple([round(c, 4) for c in confidences])


def _page(
    index: int, page: Pixels, polygons: Sequence[Polygon], texts: Sequence[LineText]
) -> tuple[Page, list[Block]]:
    """The size of a page, and what was read on it."""
    blocks = [
        Block(f"p{index}-b{n}", index, polygon, text.text, text.confidence, _kept(text.char_confidence))
        for n, (polygon, text) in enumerate(zip(polygons, texts, strict=True))
    ]
    return Page(index, page.shape[1], page.shape[0]), blocks


def _reading(read: Sequence[tuple[Page, list[Block]]], started: float) -> Reading:
    pages, blocks = tuple(page for page, _ in read), tuple(b for _, found in read for b in found)
    return Reading(pages, blocks, time.perf_counter() - started)
