"""Corrections as late labels of an experiment, gathered into independent units.

Lines of one document, or of one client's documents, fail together: a thousand of them can be one
piece of evidence. So a unit is what was assigned and fails together, it counts once, and it counts
when it is settled: after `settle_s` quiet seconds. What comes for it later counts no more, so that
evidence once shown never changes. Any `settle_s` is valid; a longer one uses more of each unit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from redpencil.errors import BadInput
from redpencil.measure import edits, extent
from redpencil.store.places import place
from redpencil.types import Correction

Arm = Literal["A", "B"]

WORST = 0.25
"""CER from which on a unit counts as this bad and no worse: such a text is typed anew, not corrected.

Bounded harm is what makes small numbers speak; with a bound of 1 a verdict takes 2.5 times the units.
"""


PATIENT = 8
"""Units of an arm that wait for the other, or so many times as many as that arm is more frequent."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a correction says of one line: how far off the shown answer was, and the unseen one if any.

    `arm` gave the answer that the person saw, with `errors` edits; `shadow_errors` are the other
    arm's on the same line, where it read along. Of a caption `chars` are words. `unit` is the client
    key where assignment is by client, else the document. Of labels with one `line` the last that comes
    before the unit is settled counts. `audit_probability` as in `Correction`.
    """

    unit: str
    arm: Arm
    at: float
    chars: int
    errors: int
    shadow_errors: int | None = None
    audit_probability: float | None = None
    line: Hashable = None

    def errors_of(self, arm: Arm) -> int | None:
        return self.errors if arm == self.arm else self.shadow_errors


def label(correction: Correction, arm: Arm, unit: str = "", shadow: str | None = None) -> Label:
    """The label of a correction; `shadow` is what the other arm read there, `unit` else its document."""
    if correction.predicted is None:
        raise BadInput(f"correction {correction.id} corrects no prediction, so it says nothing of an arm")
    return Label(
        unit=unit or correction.group,
        arm=arm,
        at=correction.created_at,
        chars=extent(correction.task, [correction.text]),
        errors=edits(correction.task, [correction.text], correction.predicted),
        shadow_errors=None if shadow is None else edits(correction.task, [correction.text], shadow),
        audit_probability=correction.audit_probability,
        line=(correction.prediction, place(correction)),
    )


@dataclass(frozen=True, slots=True)
class Unit:
    """One settled piece of evidence, and when it was settled."""

    labels: tuple[Label, ...]
    at: float

    @property
    def name(self) -> str:
        return self.labels[0].unit

    @property
    def arm(self) -> Arm:
        return self.labels[0].arm

    def cer(self, arm: Arm) -> float:
        """Edits over characters, counted up to `WORST`."""
        return min(WORST, sum(self.wrong(arm)) / max(1, sum(label.chars for label in self.labels)))

    def exact(self, arm: Arm) -> float:
        """The share of lines without a fault."""
        return self.wrong(arm).count(0) / len(self.labels)

    def preference(self) -> float:
        """Of the lines that only one arm read without a fault, B's less A's share: -1..1, 0 if none."""
        lines = list(zip(self.wrong("A"), self.wrong("B"), strict=True))
        for_a = sum(a == 0 < b for a, b in lines)
        for_b = sum(b == 0 < a for a, b in lines)
        return (for_b - for_a) / max(1, for_a + for_b)

    def wrong(self, arm: Arm) -> list[int]:
        return [label.errors_of(arm) or 0 for label in self.labels]


def settle(
    labels: Iterable[Label], now: float, settle_s: float, key: Callable[[Label], Hashable]
) -> list[Unit]:
    """The units that are settled by `now`, in the order in which they were.

    Asked again later, the answer is the same list with more at its end.
    """
    gathered: dict[Hashable, list[Label]] = {}
    for item in sorted(labels, key=lambda item: (item.at, item.unit)):
        gathered.setdefault(key(item), []).append(item)
    units = [_burst(members, settle_s) for members in gathered.values()]
    return sorted((unit for unit in units if unit.at <= now), key=lambda unit: (unit.at, unit.name, unit.arm))


def _burst(members: Sequence[Label], settle_s: float) -> Unit:
    """What came in before the first quiet time."""
    end = 1
    while end < len(members) and members[end].at - members[end - 1].at < settle_s:
        end += 1
    last = {id(item) if item.line is None else item.line: item for item in members[:end]}
    return Unit(tuple(last.values()), members[end - 1].at + settle_s)


def differences(units: Iterable[Unit]) -> list[float]:
    """CER of A less that of B, -`WORST`..`WORST`, between units of the two arms that came close in time.

    A unit is held against as many waiting ones of the other arm as that arm is more frequent, the
    latest first; each unit is used once, and those that have waited for long are dropped, since their
    documents were others. Whom it meets depends on the arms alone, never on errors, so with equal arms
    a difference is zero in expectation, whatever the weight and its changes.
    """
    waiting: dict[Arm, list[float]] = {"A": [], "B": []}
    seen: dict[Arm, int] = {"A": 0, "B": 0}
    found = []
    for unit in units:
        other: Arm = "B" if unit.arm == "A" else "A"
        seen[unit.arm] += 1
        value = unit.cer(unit.arm)
        if not waiting[other]:
            ratio = max(1, round(seen[unit.arm] / max(1, seen[other])))
            waiting[unit.arm] = [*waiting[unit.arm], value][-PATIENT * ratio :]
            continue
        take = max(1, round(seen[other] / seen[unit.arm]))
        rivals, waiting[other] = waiting[other][-take:], waiting[other][:-take]
        gap = value - sum(rivals) / len(rivals)
        found.append(gap if unit.arm == "A" else -gap)
    return found
