"""A line read alone or beside others, on a busy pool or an idle one: always the same answer."""

import asyncio
import io
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import serving_parts
import tiny_bundle
from PIL import Image
from serving_parts import BandFinder, Watched, png

import serving.reader
from redpencil.errors import BadImage, TooLarge
from redpencil.pixels import each_page
from redpencil.reader import LineReader
from redpencil.types import Polygon
from serving.pool import Pool
from serving.reader import Desk, Limits, Mode, Reader, Reading, Upload


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("bundle")
    tiny_bundle.build(folder)
    return Reader("1", LineReader(folder))


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(2)
    yield pool
    pool.close()


def read(desk: Desk, reader: Reader, data: bytes, mode: Mode = "auto") -> Awaitable[tuple[str, str, Reading]]:
    return desk.read(Upload(data), mode, lambda sha256: (reader, sha256[:8]))


def on_desk(pool: Pool, work: Callable[[Desk], Awaitable[object]], pixels: int = 10**7) -> object:
    async def run() -> object:
        return await work(Desk(pool, BandFinder(), Limits(pixels, 3)))

    return asyncio.run(run())


def test_a_single_line_is_one_block_over_the_whole_image(pool: Pool, reader: Reader) -> None:
    sha256, chosen, reading = on_desk(pool, lambda desk: read(desk, reader, png("hello")))
    assert chosen == sha256[:8]
    [block] = reading.blocks
    assert (block.id, block.text, block.page) == ("p0-b0", "hello", 0)
    assert block.polygon == ((0, 0), (160, 0), (160, 108), (0, 108))
    assert len(block.char_confidence) == 5


def test_a_page_is_read_line_by_line_in_order(pool: Pool, reader: Reader) -> None:
    lines = [f"line {word}" for word in ("one", "two", "three", "four", "five")]
    _, _, reading = on_desk(pool, lambda desk: read(desk, reader, png(*lines)))
    assert [b.text for b in reading.blocks] == lines
    assert [b.id for b in reading.blocks] == [f"p0-b{n}" for n in range(5)]


def test_of_a_document_two_pages_are_in_memory_at_most(
    pool: Pool, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = [Image.fromarray(tiny_bundle.paint(text)) for text in ("one", "two", "tee")]
    file, decoded = io.BytesIO(), list[weakref.ref[np.ndarray]]()
    drawn[0].save(file, "TIFF", save_all=True, append_images=drawn[1:])

    def watched(*given: object) -> Iterator[np.ndarray]:
        for page in each_page(*given):
            assert sum(known() is not None for known in decoded) <= 1
            shown = page.view(Watched)
            decoded.append(weakref.ref(shown))
            yield shown
            del shown

    monkeypatch.setattr(serving.reader, "each_page", watched)
    _, _, reading = on_desk(pool, lambda desk: read(desk, reader, file.getvalue(), "line"))
    assert [(b.page, b.text) for b in reading.blocks] == [(0, "one"), (1, "two"), (2, "tee")]
    assert [p.index for p in reading.pages] == [0, 1, 2]


class Halves(BandFinder):
    """Each page is one row of two lines."""

    def find_lines(self, page: np.ndarray) -> Sequence[Polygon]:
        height, width = page.shape[:2]
        return [((x, 0), (x + width / 2, 0), (x + width / 2, height), (x, height)) for x in (0, width / 2)]


def test_a_page_of_hebrew_is_read_from_right_to_left(pool: Pool, tmp_path: Path) -> None:
    alphabet = tuple("אבגד ")
    tiny_bundle.build(tmp_path, alphabet=alphabet)
    drawn = np.hstack([tiny_bundle.paint(text, alphabet) for text in ("דג", "בא")])
    desk = Desk(pool, Halves(), Limits(10**7, 1))
    sent = cv2.imencode(".png", drawn)[1].tobytes()
    _, _, reading = asyncio.run(read(desk, Reader("1", LineReader(tmp_path)), sent, "page"))
    assert [(b.id, b.text) for b in reading.blocks] == [("p0-b0", "אב"), ("p0-b1", "גד")]
    assert [b.polygon[0][0] for b in reading.blocks] == [64, 0]


def test_the_mode_overrules_what_it_looks_like(pool: Pool, reader: Reader) -> None:
    _, _, as_page = on_desk(pool, lambda desk: read(desk, reader, png("hello"), "page"))
    _, _, as_line = on_desk(pool, lambda desk: read(desk, reader, png("hello", "you"), "line"))
    assert [b.text for b in as_page.blocks] == ["hello"]
    assert len(as_line.blocks) == 1
    assert as_line.pages[0].height == 2 * serving_parts.LINE_PX


def test_an_answer_never_depends_on_who_else_is_read(pool: Pool, reader: Reader) -> None:
    words = ["a", "hello there", "the quick brown fox jumps over the lazy dog", "zz", " b "]
    alone = [on_desk(pool, lambda desk, w=word: read(desk, reader, png(w)))[2].blocks for word in words]

    async def together(desk: Desk) -> list[Reading]:
        pages = [read(desk, reader, png(*words)) for _ in range(3)]
        lines = [read(desk, reader, png(word)) for word in words * 6]
        return [r for _, _, r in await asyncio.gather(*pages, *lines)]

    crowd = on_desk(pool, together)
    assert [r.blocks for r in crowd[3:]] == alone * 6
    assert crowd[0].blocks == crowd[1].blocks == crowd[2].blocks


def test_equal_widths_together_give_what_each_gives_alone(
    pool: Pool, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU; the tiny bundle runs on the CPU here."""
    lines = ["abc", "abcdef", "xyz", "hello", "zyx"]
    _, _, alone = on_desk(pool, lambda desk: read(desk, reader, png(*lines)))
    monkeypatch.setattr(reader.bundle, "device", "cuda")
    _, _, batched = on_desk(pool, lambda desk: read(desk, reader, png(*lines)))
    assert batched.blocks == alone.blocks


def test_another_version_reads_the_same_regions(pool: Pool, reader: Reader, tmp_path: Path) -> None:
    tiny_bundle.build(tmp_path, misread={"e": "c"})
    other = Reader("2", LineReader(tmp_path))

    async def both(desk: Desk) -> tuple[Reading, Reading]:
        upload = Upload(png("hello", "there"))
        _, _, first = await desk.read(upload, "auto", lambda _: (reader, None))
        return first, await desk.read_again(upload, first, other)

    first, second = on_desk(pool, both)
    assert [b.polygon for b in second.blocks] == [b.polygon for b in first.blocks]
    assert [b.text for b in second.blocks] == ["hcllo", "thcrc"]


def test_what_is_no_image_or_too_large_is_refused(pool: Pool, reader: Reader) -> None:
    with pytest.raises(BadImage):
        on_desk(pool, lambda desk: read(desk, reader, png("hello")[:50]))
    with pytest.raises(TooLarge):
        on_desk(pool, lambda desk: read(desk, reader, png("hello")), pixels=100)


def test_a_long_page_does_not_hold_up_a_line(reader: Reader) -> None:
    pool = Pool(1)
    finished: list[str] = []

    async def race(desk: Desk) -> None:
        async def note(name: str, work: Awaitable[object]) -> None:
            await work
            finished.append(name)

        page = asyncio.create_task(note("page", read(desk, reader, png(*["x" * 40] * 25), "page")))
        await asyncio.sleep(0.02)
        await asyncio.gather(page, *(note("line", read(desk, reader, png("hi"))) for _ in range(5)))

    on_desk(pool, race, pixels=10**8)
    pool.close()
    assert finished == ["line"] * 5 + ["page"]


def test_a_mirrored_page_does_not_hold_up_a_line(reader: Reader) -> None:
    pool, page = Pool(1), Upload(png(*["x" * 40] * 25))
    finished: list[str] = []

    async def race(desk: Desk) -> None:
        _, _, first = await desk.read(page, "page", lambda _: (reader, None))
        assert len(first.blocks) > 20
        mirrored = asyncio.create_task(desk.read_again(page, first, reader))
        mirrored.add_done_callback(lambda _: finished.append("mirror"))
        await asyncio.sleep(0.02)
        await read(desk, reader, png("hi"))
        finished.append("line")
        await mirrored

    on_desk(pool, race, pixels=10**8)
    pool.close()
    assert finished == ["line", "mirror"]


def test_a_request_that_went_away_is_not_read(pool: Pool) -> None:
    done: list[int] = []
    gate = threading.Event()

    async def run() -> None:
        blockers = [pool.lane().run(gate.wait) for _ in range(2)]
        unwanted = pool.lane().run(done.append, 1)
        wanted = pool.lane().run(done.append, 2)
        unwanted.cancel()
        gate.set()
        await asyncio.gather(wanted, *blockers)

    asyncio.run(run())
    assert done == [2]
