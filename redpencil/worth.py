"""What captions are worth by CIDEr-D, and the gate's rules on it.

Word edits alone would let a captioner pass that says the same short thing of everything: on everyday
photos it needs fewer edits than a person does.
"""

from __future__ import annotations

from dataclasses import dataclass

from redpencil.finding import Finding, number
from redpencil.slices import LineScore, Slice
from redpencil.types import Outcome

BEST_CIDER = 10


@dataclass(frozen=True, slots=True)
class Worth:
    """The held-out images once more, judged by CIDEr-D: what a caption lacks of the best, 10.

    In a first version's trial a `parrot`, who says this one text of everything, takes the champion's
    place.
    """

    lines: tuple[LineScore, ...] = ()
    parrot: str = ""

    UNIT = 1000
    """Parts of a point, so that they are whole; every line is so long."""


def beats(parroted: Slice, text: str) -> Finding:
    """Who always says the same has not looked at the image; a first version must do better beyond chance."""
    after, before, sure = _points(parroted)
    told = f'On {number(parroted)} CIDEr-D is {after:.2f}; always saying "{text}" gives {before:.2f} ({sure})'
    if parroted.surely_better:
        return Finding(Outcome.PASSED, f"{told}: better.")
    if parroted.change < 0:
        return Finding(Outcome.INCONCLUSIVE, f"{told}: better, but it may be chance.")
    return Finding(Outcome.FAILED, f"{told}: a first version must be better than that.")


def keeps(part: Slice) -> Finding:
    """Fewer edits are no gain where captions come to say less of their images."""
    after, before, sure = _points(part)
    told = f"On {number(part)} CIDEr-D was {before:.2f} and is {after:.2f} ({sure})"
    if part.surely_worse:
        return Finding(Outcome.FAILED, f"{told}: worse, the captions say less of their images.")
    return Finding(Outcome.PASSED, f"{told}: {'better' if part.surely_better else 'no loss beyond chance'}.")


def _points(part: Slice) -> tuple[float, float, str]:
    """CIDEr-D after and before, and how sure the change is."""
    sure = f"too few {part.measure.thing}s for an interval"
    if part.interval is not None:
        sure = f"95 % interval of the change {-part.interval.high:.2f} to {-part.interval.low:.2f}"
    return BEST_CIDER - part.after, BEST_CIDER - (part.before or 0.0), sure
