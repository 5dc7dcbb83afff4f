"""From what a graph says per step to text with confidences, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from redpencil.errors import Damaged
from redpencil.types import LineText


def ctc_greedy(indices: NDArray[Any], probabilities: NDArray[Any], alphabet: tuple[str, ...]) -> LineText:
    """Read the best class of each step (`indices` [T], its probability [T]) as CTC does.

    Equal neighbours are one character, class 0 is the blank, class i+1 is `alphabet[i]`.
    A character is as sure as the surest of its steps.
    """
    if len(indices) == 0:
        return LineText("", 0.0, ())
    if int(indices.max()) > len(alphabet) or int(indices.min()) < 0:
        raise Damaged(
            f"the graph names class {int(indices.max())}; its alphabet has {len(alphabet)} characters"
        )
    starts = np.flatnonzero(np.diff(indices, prepend=indices[0] - 1))
    surest = np.maximum.reduceat(probabilities, starts)
    kept = indices[starts] != 0
    chars = [alphabet[c - 1] for c in indices[starts][kept]]
    sure = tuple(round(float(p), 5) for p in surest[kept].clip(0.0, 1.0))
    return LineText("".join(chars), _mean(sure), _per_character(chars, sure))


def _mean(values: tuple[float, ...]) -> float:
    return round(sum(values) / len(values), 5) if values else 0.0


def _per_character(chars: list[str], sure: tuple[float, ...]) -> tuple[float, ...]:
    # An entry of the alphabet may be several code points; each has the entry's confidence.
    return tuple(p for c, p in zip(chars, sure, strict=True) for _ in c)
