"""The packs that come with Redpencil hold what they promise."""

import pytest

from redpencil import linepack
from redpencil.linepack import Name


@pytest.mark.parametrize(("name", "count"), [("rehearsal", 1200), ("golden", 400), ("primer", 1600)])
def test_a_pack_tells_what_is_in_it(name: Name, count: int) -> None:
    told = linepack.about(name)
    assert told["lines"] == count
    assert set(told["font_licences"])
    assert all(told["font_licences"].values())


def test_golden_lines_are_images_with_text_on_them() -> None:
    lines = linepack.load("golden")
    assert len(lines) == 400
    for line in lines:
        height, _, depth = line.image.shape
        assert 15 <= height <= 64
        assert depth == 3
        assert line.text.strip()
        assert line.image.std() > 5


def test_nothing_golden_is_ever_rehearsed() -> None:
    texts = [set(linepack.texts(name)) for name in ("golden", "rehearsal")]
    assert texts[0] == {line.text for line in linepack.load("golden")}
    assert not texts[0] & texts[1]


def test_a_kind_of_the_primer_shows_all_letters_that_it_is_known_by() -> None:
    marks = linepack.marks()
    assert {"kannada", "black letter", "devanagari", "cyrillic", "arabic", "hebrew"} <= set(marks)
    assert marks["black letter"] == {"ſ"}
    lines = linepack.load("primer", "kannada")
    assert len(lines) == 100
    assert marks["kannada"] <= {c for line in lines for c in line.text}


def test_a_letter_is_the_mark_of_one_script() -> None:
    known = [c for signs in linepack.marks().values() for c in signs]
    assert len(known) == len(set(known))
