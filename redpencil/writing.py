"""Texts that are written token after token, each from those before it; several share a decoder's runs.

What a decoder kept of old tokens (keys and values) lies with the text that it belongs to. So every run may
be for other texts than the one before: the pasts of those that take part are padded to the longest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from redpencil.bundle import Generation
from redpencil.decode import Beams

Tensors = dict[str, NDArray[Any]]
Written = tuple[list[int], list[float]]  # tokens up to the end, and the probability of each as it was written


class Steps(Protocol):
    """What decodes: a graph, or a model in training."""

    @property
    def past(self) -> Mapping[str, tuple[int, int]]: ...
    def run(
        self, tokens: NDArray[np.int64], lengths: NDArray[np.int64], memory: Tensors, past: Tensors
    ) -> tuple[NDArray[np.float32], Tensors]: ...


class Writing:
    """What is being written of one image: a row for each of its beams, all of one length.

    `tokens` [rows,S] are those that the decoder has not been given yet.
    """

    def __init__(self, decoder: Steps, memory: Tensors, how: Generation) -> None:
        self._beams = Beams(1, how.beams, how.end, how.longest, how.length_penalty)
        self.tokens = np.array([how.start], np.int64)
        self.memory = memory
        self.past = {n: np.zeros((1, h, 0, d), np.float32) for n, (h, d) in decoder.past.items()}
        self.length = 0
        self.over = False
        self.error: BaseException | None = None

    def add(self, logits: NDArray[np.float32], new: Tensors) -> None:
        """Go on by what a run gave for the rows."""
        rows = self._beams.step(logits)
        self.length += self.tokens.shape[1]
        self.over = not len(rows)
        if not self.over:
            kept = {name: np.concatenate([self.past[name], value], 2) for name, value in new.items()}
            self.past = _picked(kept, rows)
            if len(rows) != len(self.tokens):
                self.memory = _picked(self.memory, rows)  # which is the same in all rows
            self.tokens = self._beams.last()[:, None]

    def best(self) -> Written:
        """The text, once it is over."""
        return self._beams.best()[0]


def step(decoder: Steps, those: Sequence[Writing]) -> None:
    """Write the next token of each; all that have as many tokens to give share a run."""

    def new(one: Writing) -> int:
        return int(one.tokens.shape[1])

    for _, alike in groupby(sorted(those, key=new), new):
        _run(decoder, list(alike))


def generate(decoder: Steps, memory: Tensors, how: Generation) -> list[Written]:
    """What is written of images that are known from the start; who has finished frees its place."""
    images = range(len(next(iter(memory.values()))))
    those = [Writing(decoder, {n: v[i : i + 1] for n, v in memory.items()}, how) for i in images]
    while going := [one for one in those if not one.over]:
        step(decoder, going)
    return [one.best() for one in those]


def _run(decoder: Steps, those: Sequence[Writing]) -> None:
    rows = [len(one.tokens) for one in those]
    lengths = np.repeat(np.array([one.length for one in those], np.int64), rows)
    tokens = np.concatenate([one.tokens for one in those])
    memory = {name: _joined([one.memory[name] for one in those]) for name in those[0].memory}
    past = {name: _padded([one.past[name] for one in those]) for name in those[0].past}
    logits, new = decoder.run(tokens, lengths, memory, past)
    ends = np.cumsum(rows)
    for one, begin, end in zip(those, ends - rows, ends, strict=True):
        one.add(logits[begin:end], {name: value[begin:end] for name, value in new.items()})


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _padded(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """[B,h,T,d] of parts that differ in T; what lies behind a row's own length the graph leaves out."""
    longest = max(part.shape[2] for part in parts)
    if all(part.shape[2] == longest for part in parts):
        return _joined(parts)
    heads, size = parts[0].shape[1], parts[0].shape[3]
    all_rows = np.zeros((sum(len(part) for part in parts), heads, longest, size), parts[0].dtype)
    at = 0
    for part in parts:
        all_rows[at : at + len(part), :, : part.shape[2]] = part
        at += len(part)
    return all_rows


def _picked(tensors: Tensors, rows: NDArray[np.int64]) -> Tensors:
    """These rows, in this order; a row may come several times."""
    if np.array_equal(rows, np.arange(len(next(iter(tensors.values()))))):
        return tensors
    return {name: value[rows] for name, value in tensors.items()}
