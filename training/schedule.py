"""How the learning rate moves, what counts as better, and when waiting any longer is pointless."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, inf, pi
from typing import Any


def rate(step: int, total: int, warmup: float) -> float:
    """The share (0..1] of the full learning rate at a step counted from 0.

    It rises linearly over the first `warmup` share of all steps, then falls as a cosine to almost 0.
    """
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + cos(pi * (step - rising + 1) / (total - rising + 1)))


def score(loss: float, cer: float | None = None) -> float:
    """One number to compare epochs by, lower is better: the CER, and between equal ones the loss.

    Without a CER (nothing to validate on) it is the loss.
    """
    return loss if cer is None else cer + 1e-6 * loss / (1 + abs(loss))


@dataclass
class Patience:
    """Remembers the best epoch, and says when `limit` epochs in a row were no better (0: never)."""

    limit: int
    best: float = inf
    best_epoch: int = 0
    waited: int = 0

    def saw(self, epoch: int, value: float) -> bool:
        """Take note of an epoch's score; True where it is the best so far."""
        better = value < self.best
        if better:
            self.best, self.best_epoch, self.waited = value, epoch, 0
        else:
            self.waited += 1
        return better

    @property
    def spent(self) -> bool:
        return 0 < self.limit <= self.waited

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def restore(self, state: dict[str, Any]) -> None:
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]
