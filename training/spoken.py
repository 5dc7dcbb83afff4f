"""What the language of a reader (redpencil/language.py) is told once a run has learned."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from redpencil.bundle import Manifest
from redpencil.language import Language

if TYPE_CHECKING:
    from training.data import Line


def told(language: Language | None, lines: Sequence[Line], before: Container[str]) -> Language:
    """The parent's language, if it had one, and the texts that it lacks.

    `before` has the keys of lines that the parent had learned from. Lines without a key, rendered or
    read by a teacher, come back in every run: their texts count where they are new.
    """
    parent = language or Language.of([])
    lacking = (
        language is None or (line.key not in before if line.key else not parent.knows(line.text))
        for line in lines
    )
    return parent.told(line.text for line, lacks in zip(lines, lacking, strict=True) if lacks)


def of_bundle(folder: Path, manifest: Manifest) -> Language | None:
    """The language of a bundle, if it has one."""
    return Language.load(folder, manifest.language) if manifest.language else None
