"""Lines as a CTC reader learns them: corrected and rehearsed ones together, marked by CER."""

from __future__ import annotations

from collections.abc import Generator

from torch import Tensor

from training.data import Batch, Batches, Stock
from training.hyper import Hyper
from training.job import Lines
from training.recipe import LineModel
from training.validate import LineMarks, mark


class LineLessons:
    """See `training.learner.Lessons`."""

    def __init__(self, model: LineModel, lines: Lines, hyper: Hyper, rank: int, world: int) -> None:
        self.model, self.hyper, self.world = model, hyper, world
        new = [*model.as_printed(lines.learn), *lines.primer]
        old, known = [*lines.rehearse, *lines.read], model.as_printed(lines.again)
        self.batches = Batches(model, new, old, hyper, rank, world, known=known)
        held = model.as_printed(lines.validate)[rank::world]
        self.held = Stock(model, held, 1, 0.0, hyper.seed)

    def epoch(self, number: int) -> Generator[Batch, None, None]:
        return self.batches.epoch(number)

    def loss(self, answer: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        logits, lengths = answer
        targets = (batch.targets, batch.target_lengths)
        return self.model.loss(logits, *targets, lengths, self.hyper.smoothing, batch.rehearsed)

    def mark(self) -> LineMarks | None:
        return mark(self.model, self.held, self.world)
