"""What several threads ask for at once is answered at once, by one of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Asked(Generic[T, R]):
    """An item, and what became of it."""

    def __init__(self, item: T) -> None:
        self.item = item
        self.done = False
        self.answer: R | None = None
        self.error: BaseException | None = None


class Together(Generic[T, R]):
    """Calls `work` with up to `most` items that wait, and gives each thread its own answer.

    Nobody waits for company: who comes first goes alone, and what came meanwhile goes together. So many
    as `at_once` work at the same time. An error is everybody's whose items went together.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]], most: int, at_once: int = 1) -> None:
        self._work, self._most, self._free = work, most, at_once
        self._waiting: deque[_Asked[T, R]] = deque()
        self._changed = threading.Condition()

    def __call__(self, item: T) -> R:
        asked = _Asked[T, R](item)
        with self._changed:
            self._waiting.append(asked)
        while (taken := self._turn(asked)) is not None:
            self._answer(taken)
        if asked.error is not None:
            raise asked.error
        assert asked.answer is not None
        return asked.answer

    def _turn(self, asked: _Asked[T, R]) -> list[_Asked[T, R]] | None:
        """What to work on, as soon as it is this thread's turn; None once somebody has answered it."""
        with self._changed:
            while not asked.done and not (self._free and self._waiting):
                self._changed.wait()
            if asked.done:
                return None
            self._free -= 1
            return [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]

    def _answer(self, taken: Sequence[_Asked[T, R]]) -> None:
        error, answers = None, list[R]()
        try:
            answers = list(self._work([asked.item for asked in taken]))
        except BaseException as exc:  # noqa: BLE001  whoever waits for it is told
            error = exc
        with self._changed:
            for n, asked in enumerate(taken):
                asked.answer, asked.error, asked.done = None if error else answers[n], error, True
            self._free += 1
            self._changed.notify_all()
