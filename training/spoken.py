"""What the language of a reader (redpencil/language.py) is told once a run has learned."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from redpencil.language import Language

if TYPE_CHECKING:
    from training.crops import Line


def told(language: Language | None, lines: Sequence[Line], before: Container[str]) -> Language:
    """The parent's language and the texts that it lacks: all of them, if it had none.

    `before` has the keys of lines that the parent had learned from. Lines without a key, rendered or
    read by a teacher, come back in every run: their texts count where they are new.
    """
    parent = language or Language.of([])
    lacking = (
        not parent.pieces or (line.key not in before if line.key else not parent.knows(line.text))
        for line in lines
    )
    return parent.told(line.text for line, lacks in zip(lines, lacking, strict=True) if lacks)
