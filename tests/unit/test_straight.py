"""A line that climbs, or stands small in a high crop, is made level and tight; others stay as they are."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_bundle

from redpencil.reader import LineReader, doubtful
from redpencil.straight import straightened
from redpencil.types import LineText


def line(
    height: int = 40, width: int = 400, top: int = 10, letters: int = 20, rise: float = 0.0
) -> np.ndarray:
    """Dark strokes on paper, 20 px high, beginning `top` px below the upper edge."""
    page = np.full((height, width, 3), 235, np.uint8)
    for x in range(10, width - 10, 12):
        y = round(top - rise * (x - width / 2))
        cv2.rectangle(page, (x, y), (x + 4, y + 19), (20, 20, 40), -1)
    return page


def dark(page: np.ndarray) -> np.ndarray:
    """How many dark pixels each row has."""
    return (page.min(axis=2) < 120).sum(axis=1)


def test_what_is_above_and_below_the_letters_goes() -> None:
    tight = straightened(line(height=120, top=50))
    assert 20 <= tight.shape[0] <= 26
    assert dark(tight).max() == dark(line()).max()
    assert (dark(tight) > 0).sum() >= 19, "and nothing of the letters does"


@pytest.mark.parametrize("rise", [-0.1, 0.06, 0.12])
def test_a_line_that_climbs_or_falls_becomes_level(rise: float) -> None:
    level = straightened(line(height=120, top=50, rise=rise))
    assert level.shape[0] <= 34, "as high as its letters, and not as its rise"
    assert dark(level).max() >= 0.8 * dark(line()).max(), "all of them in the same rows"


def test_a_rule_above_and_the_halves_of_other_lines_are_no_letters() -> None:
    page = line(height=90, top=34)
    page[8:12] = 20  # a rule from edge to edge, with more ink than any row of letters
    page[:6, 10:300:9] = 20
    page[80:, 10:300:9] = 20
    tight = straightened(page)
    assert 20 <= tight.shape[0] <= 26
    assert dark(tight).max() == dark(line()).max()


@pytest.mark.parametrize(("above", "below"), [(14, 0), (0, 12), (14, 12)])
def test_what_rises_above_the_letters_and_hangs_below_them_stays(above: int, below: int) -> None:
    page = line(height=120, top=50)
    for x in range(10, 390, 72):
        page[50 - above : 70 + below, x : x + 4] = 20
    tight = straightened(page)
    assert (dark(tight) > 0).sum() >= 19 + above + below


def test_a_word_before_a_row_of_dots_is_not_cut() -> None:
    page = np.full((40, 400, 3), 235, np.uint8)
    page[8:32, 10:60:6] = 20
    for x in range(80, 390, 20):
        page[27:32, x : x + 8] = 20
    assert (dark(straightened(page)) > 0).sum() >= 24


def test_a_tight_level_line_stays_as_it_is() -> None:
    page = line(height=22, top=1)
    assert straightened(page) is page


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (40, 300)])
def test_where_nothing_is_written_nothing_changes(shape: tuple[int, int]) -> None:
    blank = np.full((*shape, 3), 255, np.uint8)
    assert straightened(blank) is blank
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert straightened(noise).size, "whatever it is"


def test_however_large_it_is_it_is_done_soon() -> None:
    page = cv2.resize(line(height=120, top=50), (8000, 2400), interpolation=cv2.INTER_NEAREST)
    assert straightened(page).shape[0] < 80
    strip = np.full((30, 40_000, 3), 235, np.uint8)
    strip[20:28:2, ::9] = 20
    assert straightened(strip).shape[1] == 40_000


@pytest.mark.parametrize(
    ("raw", "level", "wanted"),
    [(0.7, 0.75, "level"), (0.7, 0.6, "raw"), (0.7, 0.7, "raw"), (0.8, 0.99, "raw")],
)
def test_a_line_that_is_hardly_read_is_read_again_and_the_surer_reading_counts(
    raw: float, level: float, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bundle.build(tmp_path)
    reader, high = LineReader(tmp_path), line(height=120, top=50)
    looks = []

    def look(image: np.ndarray) -> LineText:
        looks.append(image.shape[0])
        return LineText("raw", raw, (raw,) * 3) if image is high else LineText("level", level, (level,) * 5)

    monkeypatch.setattr(reader, "_read", look)
    assert reader.read(high).text == wanted
    assert len(looks) == (1 if raw >= 0.8 else 2)
    tight = line(height=22, top=1)
    reader.read(tight)
    assert looks[-1] == 22, "and where there is nothing to straighten nobody looks twice"


@pytest.mark.parametrize(
    ("text", "sure", "again"),
    [("kaͤn", 0.5, True), ("kän", 0.9, False), ("ಕನ್ನಡ", 0.5, False), ("ที่", 0.5, False), ("", 0.0, True)],
)
def test_letters_that_carry_marks_are_not_looked_at_again(text: str, sure: float, again: bool) -> None:
    assert doubtful(LineText(text, sure, (sure,) * len(text))) is again
