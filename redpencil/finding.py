"""What a rule of the gate finds, said in a sentence with its numbers."""

from __future__ import annotations

from dataclasses import dataclass

from redpencil.slices import Slice
from redpencil.types import Outcome
from redpencil.wording import digits, moved, points


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule says, in a sentence for the person who asked for the version."""

    outcome: Outcome
    reason: str


def number(part: Slice) -> str:
    """`21 held-out corrected lines`."""
    thing = part.measure.thing
    words = part.words if len(part.lines) != 1 else part.words.replace(f"{thing}s", thing)
    return f"{len(part.lines)} {words}"


def change(part: Slice) -> str:
    """`On 21 held-out corrected lines CER fell from 9.1 % to 3.0 % (95 % interval of the change ...)`."""
    return f"On {number(part)} {part.measure.name} {moved(part.before or 0.0, part.after)} ({sureness(part)})"


def sureness(part: Slice) -> str:
    """Between which bounds the change of the rate lies."""
    if part.interval is None:
        return f"too few {part.measure.thing}s for an interval"
    low, high = part.interval.low, part.interval.high
    return f"95 % interval of the change {points(low, high, digits(part.before or 0.0, part.after))}"
