"""Lines are found on pages that are drawn here, however the pages lie."""

import threading

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from redpencil.pixels import crop_line
from redpencil.types import Polygon
from serving import detect
from serving.detect import regions
from serving.pages import Detector, is_single_line

TEXT = [
    "The loop reads a page, a person corrects it,",
    "and what was corrected is learned by morning.",
    "Nothing that was acknowledged is ever lost,",
    "and every answer names its exact version.",
    "Total 42.50",
]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(threads=1)


def page(lines: list[str] = TEXT, size: int = 22, width: int = 640, height: int = 400) -> np.ndarray:
    image = Image.new("RGB", (width, height), "white")
    font = ImageFont.load_default(size)
    for i, text in enumerate(lines):
        ImageDraw.Draw(image).text((40, 40 + 2.4 * size * i), text, font=font, fill="black")
    return np.array(image)


def alike(line: np.ndarray, other: np.ndarray) -> float:
    blurred = [
        cv2.blur(cv2.resize(np.ascontiguousarray(x), (300, 20)), (9, 5)).ravel() for x in (line, other)
    ]
    return float(np.corrcoef(*blurred)[0, 1])


def tops(polygons: list[Polygon]) -> list[float]:
    return [min(y for _, y in polygon) for polygon in polygons]


def test_lines_are_found_from_top_to_bottom(detector: Detector) -> None:
    found = detector.find_lines(page())
    assert len(found) == len(TEXT)
    assert tops(found) == sorted(tops(found))


def test_an_empty_page_has_no_lines(detector: Detector) -> None:
    for shade in (0, 128, 255):
        assert detector.find_lines(np.full((500, 400, 3), shade, np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (3000, 2), (40, 40)])
def test_pages_of_odd_shapes_are_looked_at(detector: Detector, shape: tuple[int, int]) -> None:
    assert detector.find_lines(np.full((*shape, 3), 255, np.uint8)) == []


def test_the_network_never_sees_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def blank(images: np.ndarray) -> np.ndarray:
        seen.append(images.shape)
        return np.zeros((1, 1, *images.shape[2:]), np.float32)

    for shape in ((8000, 7000), (10, 3_000_000), (32, 32)):
        detect.text_map(blank, np.zeros((*shape, 3), np.uint8))  # type: ignore[arg-type]
    assert all(h * w <= 1.2 * detect.MOST_PIXELS and h % 32 == w % 32 == 0 for _, _, h, w in seen)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_page_on_its_side_or_head_gives_the_same_upright_lines(detector: Detector, turns: int) -> None:
    straight = page()
    lying = np.ascontiguousarray(np.rot90(straight, turns))
    expected = [crop_line(straight, p) for p in detector.find_lines(straight)]
    lines = [crop_line(lying, p) for p in detector.find_lines(lying)]
    assert len(lines) == len(expected)
    for line, upright in zip(lines, expected, strict=True):
        assert line.shape[1] > 2 * line.shape[0]
        assert alike(line, upright) > alike(line[::-1, ::-1], upright) + 0.05


def test_a_slanted_line_is_cut_straight(detector: Detector) -> None:
    straight = page(TEXT[:1])
    turn = cv2.getRotationMatrix2D((320, 200), 8, 1)
    slanted = cv2.warpAffine(straight, turn, (640, 400), borderValue=(255, 255, 255))
    (polygon,) = detector.find_lines(slanted)
    (upright,) = detector.find_lines(straight)
    line, same = crop_line(slanted, polygon), crop_line(straight, upright)
    assert line.shape[0] < 1.5 * same.shape[0]
    assert abs(line.shape[1] - same.shape[1]) < 0.05 * same.shape[1]


def test_a_lone_digit_is_not_laid_on_its_side(detector: Detector) -> None:
    found = detector.find_lines(page(["Items on this receipt", "1", "Total to be paid"]))
    digit = crop_line(page(), sorted(found, key=lambda p: p[1][0] - p[0][0])[0])
    assert digit.shape[0] > digit.shape[1]


def test_many_threads_find_the_same_lines(detector: Detector) -> None:
    pages = [page(TEXT[i:]) for i in range(4)]
    expected = [detector.find_lines(p) for p in pages]
    found: dict[int, list[Polygon]] = {}

    def find(i: int) -> None:
        found[i] = detector.find_lines(pages[i])

    threads = [threading.Thread(target=find, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(4)] == expected


def test_regions_grow_back_to_the_text_and_stay_on_the_page() -> None:
    probability = np.zeros((100, 200), np.float32)
    probability[40:48, 20:120] = 0.9
    probability[90:98, 150:200] = 0.9
    probability[10:12, 10:12] = 0.9
    found = regions(probability, 200, 400)
    assert len(found) == 2
    (x0, y0), (x1, y1) = found[0].min(0), found[0].max(0)
    assert max(x0 - 40, y0 - 80, 238 - x1, 94 - y1) < 0
    assert found.max() <= 400
    assert found[:, :, 1].max() <= 200


def test_text_within_a_frame_is_found_once() -> None:
    probability = np.zeros((200, 200), np.float32)
    probability[20:180, 20:180] = 0.9
    probability[28:172, 28:172] = 0
    probability[90:100, 60:140] = 0.9
    assert len(regions(probability, 200, 200)) == 1


# --- one line or a page -------------------------------------------------------------------------


def test_a_low_image_is_one_line_and_a_high_one_a_page() -> None:
    assert is_single_line(page(TEXT[:1], height=90))
    assert not is_single_line(page())


def test_two_lines_in_a_low_image_are_a_page() -> None:
    low = page(TEXT[:2], size=14)[42:92, :420]
    assert low.shape[0] < 100
    assert not is_single_line(low)
    assert not is_single_line(255 - low)


def test_a_large_but_very_wide_image_is_one_line() -> None:
    line = cv2.resize(page(TEXT[:1], width=700)[30:75], None, fx=4, fy=4)
    assert line.shape[0] > 100
    assert is_single_line(line)


def test_a_blank_or_tiny_image_is_one_line() -> None:
    assert is_single_line(np.full((30, 200, 3), 255, np.uint8))
    assert is_single_line(np.zeros((1, 1, 3), np.uint8))
