"""Corrected lines cut out of their images, as serving cuts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np

from redpencil.blobs import Blobs
from redpencil.pixels import Pixels, crop_line, open_pages
from redpencil.types import Member

MOST_BYTES = 2**30  # of pixels that a worker keeps in memory
Source = Pixels | Callable[[], Pixels]


@dataclass(frozen=True, slots=True)
class Line:
    """One line to learn from; `key` is its correction's id, empty for rehearsal.

    Lines of the same `place` are several texts of one image, which they share. `source` is the image, or
    what decodes it.
    """

    source: Source
    text: str
    key: str = ""
    group: str = ""
    place: str = ""

    @property
    def image(self) -> Pixels:
        return self.source if isinstance(self.source, np.ndarray) else self.source()

    @property
    def image_id(self) -> str:
        """The same for all lines of one image."""
        return self.place or self.key


def lines(members: Sequence[Member], blobs: Blobs, max_pixels: int, max_pages: int) -> list[Line]:
    """The members' lines as serving cuts them, in the same order.

    Each image is decoded once, as long as there is room in memory; then one that nothing is cut out of is
    decoded anew whenever somebody looks at it.
    """
    cut: dict[str, Line] = {}
    room = MOST_BYTES
    for image, group in groupby(sorted(members, key=lambda m: m.image), key=lambda m: m.image):
        here = list(group)
        places = {_place(m): m for m in here}
        look = partial(_cut, blobs, image, [*places.values()], max_pixels, max_pages)
        later = room <= 0 and len(places) == 1
        sources: Sequence[Source] = [partial(_only, look)] if later else look()
        room -= sum(pixels.nbytes for pixels in sources if isinstance(pixels, np.ndarray))
        of = dict(zip(places, sources, strict=True))
        cut |= {m.correction: Line(of[_place(m)], m.text, m.correction, m.group, _place(m)) for m in here}
    return [cut[m.correction] for m in members]


def _only(look: Callable[[], Sequence[Pixels]]) -> Pixels:
    return look()[0]


def _place(member: Member) -> str:
    return f"{member.image}/{member.page}/{member.polygon}"


def _cut(blobs: Blobs, image: str, places: Sequence[Member], max_pixels: int, max_pages: int) -> list[Pixels]:
    pages = open_pages(blobs.get(image), None, max_pixels, max_pages)
    return [crop_line(pages[m.page], m.polygon).copy() for m in places]
