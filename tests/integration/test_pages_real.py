"""Real pages: at least as much found and as well read as RapidOCR's own whole pipeline does."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pages import Line, Read, Score, compared, ours_here, pages_of, rapidocr, score_page
from redpencil.metrics import cer
from redpencil.pixels import Pixels, crop_line, open_pages
from redpencil.reader import LineReader, read_parallel
from serving.pages import Detector, is_single_line
from training import base

DATA = Path(os.environ.get("REDPENCIL_DATA", "../shared/data"))
PAGES = 4
THREADS = 2

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real pages: {DATA} is absent (REDPENCIL_DATA)")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base.kept(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def readers(bundle: Path) -> dict[str, Read]:
    return {"ours": ours_here(bundle, THREADS), "theirs": rapidocr(THREADS)}


@pytest.mark.parametrize("name", ["sroie_receipts", "funsd_forms"])
def test_no_fewer_lines_are_found_and_none_are_read_worse(name: str, readers: dict[str, Read]) -> None:
    scores = {who: Score() for who in readers}
    for image in pages_of(DATA / name, PAGES):
        for who, read in readers.items():
            score_page(image, read(image.read_bytes()), scores[who])
    assert scores["ours"].found >= scores["theirs"].found
    assert scores["ours"].errors <= scores["theirs"].errors
    assert scores["ours"].errors_joined <= scores["theirs"].errors_joined


def test_a_page_of_a_book_is_read_in_order(readers: dict[str, Read]) -> None:
    score = Score()
    for image in pages_of(DATA / "oldbooks_english", 2):
        score_page(image, readers["ours"](image.read_bytes()), score)
    assert score.errors < 0.03 * score.characters


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_receipt_on_its_side_or_head_reads_as_the_upright_one(turns: int, bundle: Path) -> None:
    reader, detector = LineReader(bundle), Detector(THREADS)

    def text(page: Pixels) -> str:
        lines = [crop_line(page, polygon) for polygon in detector.find_lines(page)]
        return compared("".join(t.text for t in read_parallel(reader, lines, THREADS)))

    (page,) = open_pages((DATA / "sroie_receipts/pages/190.jpg").read_bytes(), None, 10**8, 1)
    assert cer([(text(page), text(np.ascontiguousarray(np.rot90(page, turns))))]) < 0.08


def line_images() -> Iterator[Pixels]:
    for lines in sorted(DATA.glob("*/lines")):
        for file in sorted(lines.iterdir())[::25]:
            yield open_pages(file.read_bytes(), None, 10**8, 1)[0]


def test_line_crops_are_single_lines_and_pages_are_not() -> None:
    lines = [is_single_line(line) for line in line_images()]
    assert sum(lines) >= 0.99 * len(lines)
    for image in DATA.glob("*/pages/*.[jp][pn]g"):
        assert not is_single_line(open_pages(image.read_bytes(), None, 10**8, 1)[0])


def test_a_line_of_the_truth_is_found_by_what_lies_mostly_inside_it() -> None:
    truth, inside, around = (Line(box, "a") for box in ((0, 0, 100, 20), (10, 0, 60, 20), (0, 0, 300, 20)))
    assert inside.inside(truth) == 1
    assert around.inside(truth) < 0.5
