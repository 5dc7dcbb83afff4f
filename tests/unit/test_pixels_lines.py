"""Lines are cut out of a page upright and whole, and become the tensors that a model was made for."""

import json
from typing import Any

import cv2
import numpy as np
import pytest

from redpencil.errors import BadInput
from redpencil.pixels import Preprocessing, crop_line, to_tensor, whole

PPOCR = Preprocessing(height=48, channels="bgr", mean=(0.5,) * 3, std=(0.5,) * 3)


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    """Every pixel differs from its neighbours, so a wrong turn shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8)


def test_the_whole_page_is_the_line() -> None:
    page = gradient()
    assert np.array_equal(crop_line(page, whole(page)), page)


def test_an_upright_box_is_cut_exactly() -> None:
    page = gradient()
    assert np.array_equal(crop_line(page, ((5, 7), (25, 7), (25, 19), (5, 19))), page[7:19, 5:25])


def test_a_box_over_the_edge_keeps_what_is_there() -> None:
    page = gradient()
    assert np.array_equal(crop_line(page, ((-5, -7), (25, -7), (25, 19), (-5, 19))), page[:19, :25])
    assert crop_line(page, ((59.9, 0), (70, 0), (70, 5), (59.9, 5))).shape == (5, 1, 3)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_line_that_stands_otherwise_comes_out_upright(turns: int) -> None:
    page = gradient()
    height, width = page.shape[:2]
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    turned = corners[turns:] + corners[:turns]
    upright = np.rot90(page, turns)
    line = crop_line(page, tuple(turned))
    assert line.shape == upright.shape
    assert np.abs(line.astype(int) - upright)[2:-2, 2:-2].max() <= 8


def test_a_slanted_line_is_deskewed() -> None:
    page = np.full((200, 300, 3), 255, np.uint8)
    for x in range(50, 250):
        page[100 + (x - 50) // 4, x] = 0
    line = crop_line(page, ((52, 90), (252, 140), (247, 160), (47, 110)))
    dark = (line.min(axis=2) < 128).nonzero()[0]
    assert dark.max() - dark.min() <= 2


def test_a_line_longer_than_can_be_warped_is_still_cut() -> None:
    page = np.zeros((12, 40_000, 3), np.uint8)
    page[:, 30_000:] = 200
    line = crop_line(page, ((0, 0), (40_000, 2), (40_000, 12), (0, 10)))
    assert line.shape[1] > 50 * line.shape[0]
    assert line[0, 0, 0] == 0
    assert line[0, -100, 0] == 200


def test_a_huge_polygon_around_the_page_is_bounded() -> None:
    far = ((-1e6, -1e6), (1e6, -1e6 + 9), (1e6, 1e6), (-1e6, 1e6))
    assert crop_line(gradient(), far).shape == gradient().shape


def test_corners_given_the_other_way_round_do_not_mirror_the_line() -> None:
    page = gradient()
    assert np.array_equal(crop_line(page, ((5, 7), (5, 19), (25, 19), (25, 7))), page[7:19, 5:25])


@pytest.mark.parametrize(
    "polygon",
    [
        ((5, 5),) * 4,
        ((0, 0), (5, 5), (9, 9), (3, 3)),
        ((0, 0), (5, 0), (5, 5)),
        ((90, 0), (99, 0), (99, 9), (90, 9)),
        ((0, 0), (float("nan"), 0), (5, 5), (0, 5)),
    ],
)
def test_a_polygon_without_four_corners_on_the_page_is_refused(polygon: tuple) -> None:
    with pytest.raises(BadInput):
        crop_line(gradient(), polygon)


# --- tensors ------------------------------------------------------------------------------------


def test_a_tensor_has_the_declared_height_and_channel_order() -> None:
    red = np.zeros((24, 100, 3), np.uint8)
    red[:, :, 0] = 255
    tensor = to_tensor(red, PPOCR)
    assert tensor.shape == (3, 48, 200)
    assert tensor.dtype == np.float32
    assert tensor[:, 5, 5].tolist() == [-1, -1, 1]


def test_widths_are_scaled_padded_and_capped() -> None:
    line = np.zeros((48, 100, 3), np.uint8)
    odd = Preprocessing(
        32,
        "gray",
        (0.0,),
        (1.0,),
        width_scale=0.5,
        width_multiple=8,
        min_width=48,
        max_width=96,
        pad_value=7.0,
    )
    assert to_tensor(line, odd).shape == (1, 32, 48)
    assert to_tensor(line, odd)[0, 0, 33:].tolist() == [0.0] + [7.0] * 14
    assert to_tensor(np.zeros((10, 4000, 3), np.uint8), odd).shape == (1, 32, 96)
    assert to_tensor(np.zeros((4000, 1, 3), np.uint8), PPOCR).shape == (3, 48, 16)


def test_much_larger_lines_are_averaged_and_not_sampled() -> None:
    grain = np.random.default_rng(0).integers(0, 255, (480, 960, 3), np.uint8)
    assert to_tensor(grain, PPOCR).std() < 0.1


def test_preprocessing_survives_json() -> None:
    assert Preprocessing.from_dict(json.loads(json.dumps(PPOCR.to_dict()))) == PPOCR


def test_contradictory_preprocessing_is_refused() -> None:
    with pytest.raises(BadInput, match="one mean"):
        Preprocessing(48, "gray", (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(BadInput, match="positive"):
        Preprocessing(0, "gray", (0.5,), (0.5,))


@pytest.mark.parametrize("turned", [False, True])
def test_of_a_long_strip_only_the_middle_is_scaled(turned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    square = Preprocessing(height=8, channels="rgb", mean=(0.0,) * 3, std=(1.0,) * 3, width=8, fit="crop")
    strip = np.zeros((2, 4001, 3), np.uint8)
    strip[:, 2000] = 255
    strip = strip.swapaxes(0, 1) if turned else strip
    sizes = []
    resize = cv2.resize

    def watched(image: np.ndarray, size: tuple[int, int], **how: Any) -> np.ndarray:
        sizes.append(size)
        return resize(image, size, **how)

    monkeypatch.setattr(cv2, "resize", watched)
    bright = to_tensor(np.ascontiguousarray(strip), square).max(axis=(0, 2 if turned else 1))
    assert max(sizes[0]) <= 8 * 4, "and not 8 * 4001 / 2"
    assert 2 <= bright.argmax() <= 5, "one of its pixels are four here, and the middle stays the middle"
