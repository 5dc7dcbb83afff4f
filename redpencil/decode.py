"""From what a graph says per step to text with confidences, in numpy: CTC, and beams of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redpencil.direction import as_read
from redpencil.errors import Damaged
from redpencil.types import LineText


def ctc_greedy(indices: NDArray[Any], probabilities: NDArray[Any], alphabet: tuple[str, ...]) -> LineText:
    """Read the best class of each step (`indices` [T], its probability [T]) as CTC does.

    Equal neighbours are one character, class 0 is the blank, class i+1 is `alphabet[i]`.
    A character is as sure as the surest of its steps.
    """
    if len(indices) == 0:
        return LineText("", 0.0, ())
    spellable(indices, alphabet)
    starts = np.flatnonzero(np.diff(indices, prepend=indices[0] - 1))
    surest = np.maximum.reduceat(probabilities, starts)
    kept = indices[starts] != 0
    return spelled([alphabet[c - 1] for c in indices[starts][kept]], surest[kept].tolist())


def spellable(classes: NDArray[Any], alphabet: tuple[str, ...]) -> None:
    """Raise Damaged where a graph names a class that its alphabet does not have."""
    if int(classes.max()) > len(alphabet) or int(classes.min()) < 0:
        raise Damaged(
            f"the graph names class {int(classes.max())}; its alphabet has {len(alphabet)} characters"
        )


def spelled(chars: list[str], surest: Sequence[float]) -> LineText:
    """Entries of an alphabet as they are drawn, each with its probability, as a line's text."""
    sure = tuple(round(min(max(p, 0.0), 1.0), 5) for p in surest)
    text, order = as_read("".join(chars))
    each = _per_character(chars, sure)
    return LineText(text, _mean(sure), tuple(each[i] for i in order))


def _mean(values: tuple[float, ...]) -> float:
    return round(sum(values) / len(values), 5) if values else 0.0


def _per_character(chars: list[str], sure: tuple[float, ...]) -> tuple[float, ...]:
    # An entry of the alphabet may be several code points; each has the entry's confidence.
    return tuple(p for c, p in zip(chars, sure, strict=True) for _ in c)


@dataclass(frozen=True, slots=True)
class _Beam:
    """One way to go on with an image's text."""

    image: int
    tokens: tuple[int, ...] = ()
    sure: tuple[float, ...] = ()  # the probability of each token as it was written
    logp: float = 0.0


@dataclass
class Beams:
    """Beam search over `images` texts at once; with width 1 it is greedy.

    Each step is told the logits of every open row and answers which rows go on. A text is over at
    the token `end`, or when it has `longest` tokens. Sums of log probabilities are divided by the
    length to the power of `length_penalty` (Wu et al. 2016 without its constant), so 0 prefers
    short texts and 1 compares means.
    """

    images: int
    width: int
    end: int
    longest: int
    length_penalty: float = 1.0
    _open: list[_Beam] = field(default_factory=list)
    _done: list[list[_Beam]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._open = [_Beam(image) for image in range(self.images)]
        self._done = [[] for _ in range(self.images)]

    def step(self, logits: NDArray[np.float32]) -> NDArray[np.int64]:
        """Take logits [rows, V] of the open rows; returns which of these rows go on, in their new order."""
        logp = _log_softmax(logits)
        chosen = _top(logp, 2 * self.width)
        going: list[tuple[int, _Beam]] = []
        for image in range(self.images):
            going += self._image(image, logp, chosen)
        self._open = [beam for _, beam in going]
        return np.array([row for row, _ in going], np.int64)

    def last(self) -> NDArray[np.int64]:
        """The newest token of every open row."""
        return np.array([beam.tokens[-1] for beam in self._open], np.int64)

    def best(self) -> list[tuple[list[int], list[float]]]:
        """Per image its best text, without the end, and how probable each token was."""
        found = [max(done, key=self._score) for done in self._done]
        return [(list(b.tokens), list(b.sure)) for b in found]

    def _image(
        self, image: int, logp: NDArray[np.float64], chosen: NDArray[np.int64]
    ) -> list[tuple[int, _Beam]]:
        """The rows of one image that go on; what has ended is put aside."""
        rows = [(row, beam) for row, beam in enumerate(self._open) if beam.image == image]
        ways = [(beam.logp + logp[row, t], row, int(t), beam) for row, beam in rows for t in chosen[row]]
        ways.sort(key=lambda way: -way[0])
        going: list[tuple[int, _Beam]] = []
        for total, row, token, beam in ways[: 2 * self.width]:
            if len(going) == self.width:
                break
            self._go(row, beam, token, float(total), float(np.exp(logp[row, token])), going)
        return [] if len(self._done[image]) >= self.width else going

    def _go(
        self, row: int, beam: _Beam, token: int, total: float, sure: float, going: list[tuple[int, _Beam]]
    ) -> None:
        if token == self.end:
            self._done[beam.image].append(_Beam(beam.image, beam.tokens, beam.sure, total))
            return
        longer = _Beam(beam.image, (*beam.tokens, token), (*beam.sure, sure), total)
        if len(longer.tokens) >= self.longest:
            self._done[beam.image].append(longer)
        else:
            going.append((row, longer))

    def _score(self, beam: _Beam) -> float:
        return float(beam.logp / max(1, len(beam.tokens)) ** self.length_penalty)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    answer: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return answer


def _top(logp: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The most probable classes of each row, in no particular order."""
    count = min(count, logp.shape[1])
    return np.argpartition(-logp, count - 1, axis=-1)[:, :count]
