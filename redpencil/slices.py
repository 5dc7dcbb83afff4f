"""A slice: lines that champion and candidate both read, and what came of it.

A line is what the task asks about: a line of text, or a whole image that a caption tells of.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from redpencil.bootstrap import Interval, interval
from redpencil.measure import CER, Measure
from redpencil.types import Precision

FATES = ("fixed", "still_wrong", "newly_broken", "still_right")


@dataclass(frozen=True, slots=True)
class LineScore:
    """One judged line: its length and how many characters each reader got wrong (edit distance).

    Of a caption words are counted, and edits to the nearest reference. `key` is the correction's id
    (any name in the golden set), `group` its document, empty for none. A candidate without an INT8
    graph has no INT8 errors; a first version has no champion's.
    """

    key: str
    chars: int
    errors_candidate_int8: int | None
    errors_candidate_fp32: int
    errors_champion: int | None = None
    group: str = ""

    def errors(self, reader: Precision | None) -> int | None:
        """Those of the candidate in a precision, or of the champion where `reader` is None."""
        if reader is None:
            return self.errors_champion
        return self.errors_candidate_int8 if reader is Precision.INT8 else self.errors_candidate_fp32


def rate(lines: Sequence[LineScore], reader: Precision | None) -> float | None:
    """Error rate of a reader on all these lines, None where it did not read them."""
    errors = [line.errors(reader) for line in lines]
    known = [e for e in errors if e is not None]
    if not lines or len(known) < len(lines):
        return None
    return sum(known) / max(1, sum(line.chars for line in lines))


@dataclass(frozen=True)
class Slice:
    """Lines that belong together, read by the champion and by the candidate in one precision."""

    words: str
    lines: tuple[LineScore, ...]
    precision: Precision
    measure: Measure = CER

    def only(self, keys: Collection[str] | None) -> Slice:
        """The new ones among these lines; all of them where `keys` is None."""
        if keys is None:
            return self
        return replace(self, words=f"new {self.words}", lines=tuple(x for x in self.lines if x.key in keys))

    @cached_property
    def before(self) -> float | None:
        return rate(self.lines, None)

    @cached_property
    def after(self) -> float:
        return rate(self.lines, self.precision) or 0.0

    @property
    def change(self) -> float:
        """By how much the rate rises from champion to candidate; negative is better, 0 without a champion."""
        return 0.0 if self.before is None else self.after - self.before

    @cached_property
    def _rises(self) -> list[int]:
        return [(line.errors(self.precision) or 0) - (line.errors_champion or 0) for line in self.lines]

    @cached_property
    def interval(self) -> Interval | None:
        """The 95 % interval of `change`, None without a champion or with too few lines."""
        if self.before is None:
            return None
        return interval(
            self._rises, [line.chars for line in self.lines], [_document(line) for line in self.lines]
        )

    @property
    def surely_worse(self) -> bool:
        return self.interval is not None and self.interval.low > 0 and self._documents_agree(1)

    @property
    def surely_better(self) -> bool:
        return self.interval is not None and self.interval.high < 0 and self._documents_agree(-1)

    @property
    def few_documents(self) -> bool:
        """Whether lines had to stand in for documents, of which there are too few to draw."""
        return self.interval is not None and self.interval.drawn == "lines"

    def _documents_agree(self, sign: int) -> bool:
        """With few documents, all that moved went the same way: their lines are no independent proof.

        One that stayed as it was says nothing; of several, two at least must have moved.
        """
        moves: dict[str, int] = {}
        for line, rise in zip(self.lines, self._rises, strict=True):
            moves[_document(line)] = moves.get(_document(line), 0) + sign * rise
        moved = [move for move in moves.values() if move]
        return not self.few_documents or (min(moved, default=0) > 0 and len(moved) >= min(2, len(moves)))

    @cached_property
    def fates(self) -> dict[str, str]:
        """Per key what the candidate made of it, an exact match being right; empty without a champion."""
        if self.before is None:
            return {}
        return {line.key: _fate(line, self.precision) for line in self.lines}

    @property
    def counts(self) -> dict[str, int]:
        fates = list(self.fates.values())
        return {fate: fates.count(fate) for fate in FATES}

    @property
    def documents(self) -> int:
        return len({_document(line) for line in self.lines})

    def scores(self) -> dict[str, Any]:
        """What was measured, ready for JSON; rates and changes are 0..1, None where not measured."""
        readers = {
            "champion": None,
            "candidate": self.precision,
            "int8": Precision.INT8,
            "fp32": Precision.FP32,
        }
        return {
            "lines": len(self.lines),
            "documents": self.documents,
            "chars": sum(line.chars for line in self.lines),
            self.measure.key: {name: rate(self.lines, reader) for name, reader in readers.items()},
            "exact": {name: _exact(self.lines, reader) for name, reader in readers.items()},
            "change": None if self.before is None else self.change,
            "interval": None if self.interval is None else asdict(self.interval),
            "counts": self.counts,
        }


def _document(line: LineScore) -> str:
    return line.group or f"\0{line.key}"


def _exact(lines: Sequence[LineScore], reader: Precision | None) -> float | None:
    errors = [line.errors(reader) for line in lines]
    return None if None in errors or not errors else errors.count(0) / len(errors)


def _fate(line: LineScore, precision: Precision) -> str:
    if line.errors(precision) == 0:
        return "fixed" if line.errors_champion else "still_right"
    return "still_wrong" if line.errors_champion else "newly_broken"
