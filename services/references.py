"""Names for captions that an import names nobody for: `reference 1`, `reference 2` ... of their image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace

from redpencil.store import Store
from redpencil.store.corrections import Revocation
from redpencil.store.places import place
from redpencil.types import Correction, Task

NOBODY = ""
"""The author of a caption that has yet to be named."""


def named(store: Store, said: Sequence[Correction], revoked: Sequence[Revocation]) -> list[Correction]:
    """The corrections of an import, each with an author; asked in the transaction that keeps them.

    Of one author only the latest caption of an image counts, so every other text is another reference. One
    that holds already keeps its name, any other has the next number. So the same captions hold, however
    their lines are divided among imports, and said again they add none.
    """
    if not (images := {c.image for c in said if c.author == NOBODY}):
        return list(said)
    there, gone = store.corrections.captions_of(images), {revocation.correction for revocation in revoked}
    beside = (c for c in said if c.author != NOBODY and c.task is Task.CAPTION)
    names = Names(c for c in (*there, *beside) if c.id not in gone)
    return [replace(c, author=names.of(c)) if c.author == NOBODY else c for c in said]


class Names:
    """The references that images have, by place and text, and how far they are counted."""

    def __init__(self, said: Iterable[Correction]) -> None:
        self._names: dict[Hashable, str] = {}
        self._counted: Counter[str] = Counter()
        holding = {(place(c), c.author): c for c in sorted(said, key=lambda c: c.created_at)}
        for c in holding.values():
            if number := re.fullmatch("reference ([1-9][0-9]{0,8})", c.author):
                self._names[place(c), c.text] = c.author
                self._counted[c.image] = max(self._counted[c.image], int(number[1]))

    def of(self, caption: Correction) -> str:
        """The name that the text has at its place, or a new one, which it has from then on."""
        key = place(caption), caption.text
        if key not in self._names:
            self._counted[caption.image] += 1
            self._names[key] = f"reference {self._counted[caption.image]}"
        return self._names[key]
