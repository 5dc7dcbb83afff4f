"""Wrong corrections as people make them, put among right ones by a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from training.doubt import Statement

KINDS = ("shifted", "region", "duplicate", "conflict", "slip")
RIGHT = ""
MOST_EDITS = 3
Rng = np.random.Generator


def spoil(said: Sequence[Statement], share: float, seed: int) -> tuple[list[Statement], list[str]]:
    """The statements with a share of them wrong, and of each its kind of mistake ("" where it is right).

    Kinds come equally often. As many right lines as have a conflict were stated wrongly before: that
    somebody said something else of a place earlier does not give a mistake away.
    """
    rng = np.random.default_rng(seed)
    made, kinds = list(said), [RIGHT] * len(said)
    wanted = [len(part) for part in np.array_split(np.arange(round(share * len(said))), len(KINDS))]
    for kind, count in zip(KINDS, wanted, strict=True):
        while sum(k == kind for k in kinds) < count:
            at = int(rng.integers(len(said)))
            for i, changed in MAKERS[kind](said, at, rng):
                if kinds[i] == RIGHT and changed.line.text != said[i].line.text:
                    made[i], kinds[i] = changed, kind
    for i in rng.permutation([i for i, kind in enumerate(kinds) if kind == RIGHT])[: wanted[3]]:
        made[i] = replace(said[i], earlier=(slipped(said[i].line.text, said, rng),))
    return made, kinds


def _shifted(said: Sequence[Statement], at: int, rng: Rng) -> list[tuple[int, Statement]]:
    """Two or three lines get the text of the line below."""
    rows = range(at, min(at + int(rng.integers(2, 4)), len(said) - 1))
    same = [i for i in rows if said[i].line.group == said[i + 1].line.group]
    return [(i, stated(said[i], said[i + 1].line.text)) for i in same]


def _region(said: Sequence[Statement], at: int, rng: Rng) -> list[tuple[int, Statement]]:
    """The text is of another document."""
    other = said[int(rng.integers(len(said)))]
    return [(at, stated(said[at], other.line.text))] if other.line.group != said[at].line.group else []


def _duplicate(said: Sequence[Statement], at: int, rng: Rng) -> list[tuple[int, Statement]]:
    """The text of another line of the document stands here as well."""
    same = [s for s in said if s.line.group == said[at].line.group]
    return [(at, stated(said[at], same[int(rng.integers(len(same)))].line.text))]


def _conflict(said: Sequence[Statement], at: int, rng: Rng) -> list[tuple[int, Statement]]:
    """Stated rightly at first, then wrongly: with a slip, or with the text of any other line."""
    truth, any_other = said[at].line.text, said[int(rng.integers(len(said)))].line.text
    wrong = slipped(truth, said, rng) if rng.random() < 0.5 else any_other
    return [(at, replace(stated(said[at], wrong), earlier=(truth,)))]


def _slip(said: Sequence[Statement], at: int, rng: Rng) -> list[tuple[int, Statement]]:
    return [(at, stated(said[at], slipped(said[at].line.text, said, rng)))]


def slipped(text: str, said: Sequence[Statement], rng: Rng) -> str:
    """The text with one to three characters replaced, added, left out or exchanged."""
    for _ in range(int(rng.integers(1, MOST_EDITS + 1))):
        other = said[int(rng.integers(len(said)))].line.text
        c, at = other[int(rng.integers(len(other)))], int(rng.integers(len(text)))
        ways = [text[:at] + c + text[at + 1 :], text[:at] + c + text[at:], text[:at] + text[at + 1 :]]
        ways.append(text[:at] + text[at : at + 2][::-1] + text[at + 2 :])
        text = ways[int(rng.integers(len(ways)))].strip() or text
    return text


def stated(statement: Statement, text: str) -> Statement:
    return replace(statement, line=replace(statement.line, text=text))


Maker = Callable[[Sequence[Statement], int, Rng], list[tuple[int, Statement]]]
MAKERS: dict[str, Maker] = {
    "shifted": _shifted,
    "region": _region,
    "duplicate": _duplicate,
    "conflict": _conflict,
    "slip": _slip,
}
