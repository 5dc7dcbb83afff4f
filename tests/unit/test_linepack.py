"""The packs that come with Redpencil hold what they promise."""

import pytest

from redpencil import linepack
from redpencil.linepack import Name


@pytest.mark.parametrize(("name", "count"), [("rehearsal", 1200), ("golden", 400)])
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
    texts = [{line.text for line in linepack.load(name)} for name in ("golden", "rehearsal")]
    assert not texts[0] & texts[1]
