"""Lines come in the order in which people read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redpencil.types import Polygon
from serving.order import reading_order

WIDTH, HEIGHT = 1000, 1400


def box(x0: float, y0: float, x1: float, y1: float) -> Polygon:
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def column(x: float, y: float, lines: int, wide: float = 400) -> list[Polygon]:
    """Prose: full lines, the last of the paragraph shorter."""
    rows = [box(x, y + 30 * i, x + wide, y + 30 * i + 20) for i in range(lines - 1)]
    return [*rows, box(x, y + 30 * (lines - 1), x + wide * 0.4, y + 30 * (lines - 1) + 20)]


def turned(polygon: Polygon, degrees: float) -> Polygon:
    """Seen on a page that was turned clockwise about its middle; the first corner stays the first."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = ((x - WIDTH / 2, y - HEIGHT / 2) for x, y in polygon)
    return tuple((x * cos - y * sin + 700, x * sin + y * cos + 700) for x, y in moved)


def is_read_as_listed(lines: list[Polygon]) -> bool:
    """Whatever order they are found in."""
    mixed = sorted(range(len(lines)), key=lambda i: (i * 7919) % 104729)
    order = reading_order([lines[i] for i in mixed])
    return [mixed[i] for i in order] == list(range(len(lines)))


def test_an_empty_page_has_no_order() -> None:
    assert reading_order([]) == []


def test_rows_are_read_from_left_to_right() -> None:
    assert is_read_as_listed(
        [box(0, 2, 90, 20), box(300, 0, 390, 22), box(0, 40, 90, 60), box(200, 43, 390, 61)]
    )


def test_a_receipt_is_read_row_by_row() -> None:
    rows = [(box(50, 40 * i, 350, 40 * i + 30), box(500, 40 * i + 2, 590, 40 * i + 31)) for i in range(12)]
    assert is_read_as_listed([cell for row in rows for cell in row])


def test_a_table_of_narrow_columns_is_read_row_by_row() -> None:
    cells = [box(150 * c, 40 * r, 150 * c + 100, 40 * r + 25) for r in range(8) for c in range(5)]
    assert is_read_as_listed(cells)


def test_a_page_of_arabic_is_read_from_right_to_left() -> None:
    rows = [box(300, 2, 390, 20), box(0, 0, 90, 22), box(200, 40, 390, 60), box(0, 43, 90, 61)]
    assert reading_order(rows, leftward=True) == [0, 1, 2, 3]
    columns = column(520, 100, 20) + column(50, 100, 20)
    assert reading_order(columns, leftward=True) == list(range(40))
    lying = [turned(line, 90) for line in columns]
    assert reading_order(lying, leftward=True) == list(range(40)), "and so where it lies on its side"


def test_two_columns_are_read_one_after_the_other() -> None:
    assert is_read_as_listed(column(50, 100, 20) + column(520, 100, 20))


def test_columns_whose_lines_do_not_align_are_columns_too() -> None:
    assert is_read_as_listed(column(50, 100, 20) + column(520, 111, 19))


def test_three_columns_under_a_heading_and_over_a_footer() -> None:
    heading, footer = box(100, 20, 900, 70), box(450, 900, 550, 920)
    columns = [line for i in range(3) for line in column(40 + 320 * i, 100, 20, wide=280)]
    assert is_read_as_listed([heading, *columns, footer])


def test_a_heading_in_the_middle_of_two_columns_divides_them() -> None:
    upper = column(50, 100, 8) + column(520, 100, 8)
    lower = column(50, 500, 8) + column(520, 500, 8)
    assert is_read_as_listed([*upper, box(100, 400, 900, 440), *lower])


def test_a_paragraph_before_two_columns_stays_a_paragraph() -> None:
    assert is_read_as_listed(column(50, 40, 5, wide=870) + column(50, 300, 9) + column(520, 300, 9))


@pytest.mark.parametrize("degrees", [-12, -3, 2, 9, 90, 180, 270, 184])
def test_a_slanted_or_turned_page_is_read_as_if_it_were_straight(degrees: float) -> None:
    page = [box(100, 20, 900, 60), *column(50, 100, 20), *column(520, 100, 20)]
    assert is_read_as_listed([turned(line, degrees) for line in page])
    rows = [(box(50, 40 * i, 350, 40 * i + 30), box(500, 40 * i, 590, 40 * i + 30)) for i in range(12)]
    assert is_read_as_listed([turned(cell, degrees) for row in rows for cell in row])


def test_a_line_up_the_margin_comes_last() -> None:
    margin = ((5, 900), (5, 300), (25, 300), (25, 900))
    assert is_read_as_listed([*column(50, 100, 30, wide=800), margin])


corner = st.integers(0, 2000)
boxes = st.builds(
    lambda x, y, w, h: box(x, y, x + w, y + h), corner, corner, st.integers(1, 1500), st.integers(1, 200)
)


@given(st.lists(boxes, max_size=40), st.sampled_from([0, 5, 90, 180]))
def test_every_line_is_read_exactly_once(lines: list[Polygon], degrees: int) -> None:
    assert sorted(reading_order([turned(line, degrees) for line in lines])) == list(range(len(lines)))
