"""What processes said: the end of it for people, and no more of it than is of use."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MOST_BYTES = 20 * 2**20
"""Of a log; twice that with what came before."""


def last_words(log: Path, lines: int = 3, longest: int = 600) -> str:
    """The end of what a process said."""
    if not log.exists():
        return ""
    with log.open("rb") as words:
        words.seek(max(0, log.stat().st_size - 4096))
        said = words.read().decode(errors="replace").strip().splitlines()
    return "\n".join(said[-lines:])[-longest:]


def shorten(log: Path) -> None:
    """Where a log has grown large, put what it says aside as NAME.old and empty it.

    Whoever appends to it goes on in it, at its beginning. What was aside before is gone, and so is all that
    it said where the disk has no room for it.
    """
    if not log.exists() or log.stat().st_size <= MOST_BYTES:
        return
    try:
        shutil.copyfile(log, log.with_name(f"{log.name}.old"))
    finally:
        os.truncate(log, 0)
