"""How the learning rate moves, what counts as better, and when waiting any longer is pointless."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import cos, inf, pi
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.hyper import Hyper


def rate(hyper: Hyper, step: int, total: int, patience: Patience) -> float:
    """The share (0..1] of the full learning rate at a step counted from 0.

    It rises linearly over the first `warmup` share of all steps. Then it falls as a cosine to almost
    0, or by `decay` every `decay_every` epochs, or by `decay` whenever so many in a row were no better.
    """
    rising = max(1, round(total * hyper.warmup))
    if step < rising:
        return (step + 1) / rising
    if hyper.schedule == "cosine":
        return 0.5 * (1 + cos(pi * (step - rising + 1) / (total - rising + 1)))
    every = max(1, hyper.decay_every)
    if hyper.schedule == "step":
        return float(hyper.decay ** (step // (hyper.report_every * every)))
    return float(hyper.decay ** patience.steps_down(every))


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
    plateaus: list[int] = field(default_factory=list)  # how long those lasted that a better epoch ended

    def saw(self, epoch: int, value: float) -> bool:
        """Take note of an epoch's score; True where it is the best so far."""
        better = value < self.best
        if better:
            self.plateaus += [self.waited] if self.waited else []
            self.best, self.best_epoch, self.waited = value, epoch, 0
        else:
            self.waited += 1
        return better

    def steps_down(self, every: int) -> int:
        """How often a plateau had lasted for so many epochs more."""
        return sum(lasted // every for lasted in (*self.plateaus, self.waited))

    @property
    def spent(self) -> bool:
        return 0 < self.limit <= self.waited

    def state(self) -> dict[str, Any]:
        return asdict(self)

    def restore(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
