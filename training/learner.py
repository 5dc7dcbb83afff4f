"""What the loop and the cycle ask of a model, whatever it reads and however it decodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import Field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor, nn

from redpencil.bundle import Manifest
from redpencil.pixels import Pixels, Preprocessing
from redpencil.settings import Settings

if TYPE_CHECKING:
    from training.crops import Line
    from training.hyper import Hyper
    from training.job import Lines


class Marks(Protocol):
    """A dataclass of measures, each of which becomes `val_NAME` of the history, or, where no line was set
    aside and lines are marked that are learned from, `heart_NAME`."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def loss(self) -> float: ...
    @property
    def score(self) -> float:
        """What the best epoch has least of."""


class Batch(Protocol):
    """Some of what is to be learned; `inputs` go into the model's forward."""

    @property
    def inputs(self) -> tuple[Tensor | None, ...]: ...

    def to(self, device: Any) -> Batch: ...


class Lessons(Protocol):
    """A worker's share of what a model learns from, and what it is marked on."""

    def epoch(self, number: int) -> Generator[Batch, None, None]:
        """`report_every` x `accumulate` batches, the same for the same number and seed."""

    def loss(self, answer: Any, batch: Any) -> Tensor:
        """The loss of what the model's forward answered to a batch."""

    def mark(self) -> Marks | None:
        """How well the model does, all workers together, on what was set aside, or where nothing was on
        some of what it learns; None: that tells nothing of such a model."""


class Learner(nn.Module, ABC):
    """A model that the loop trains and the cycle exports. Parameters that stay have requires_grad False."""

    preprocessing: Preprocessing
    alphabet: tuple[str, ...]
    """What the answers are spelled with: a checkpoint fits a model of the same one only."""
    by_line = False
    """Whether the cores of one worker learn faster with some lines of a batch each: see
    `training.side_by_side`. Its forward must be safe in several threads, and draw nothing at random."""

    @abstractmethod
    def lessons(self, lines: Lines, hyper: Hyper, rank: int = 0, world: int = 1) -> Lessons:
        """What worker `rank` of `world` learns from; `hyper.batch` is already its own share."""

    @abstractmethod
    def to_bundle(self, folder: Path, lines: Sequence[Line], lineage: dict[str, Any]) -> Manifest:
        """Write the model as a bundle into an existing folder, checked and quantised on `lines`."""

    def expect(self, settings: Settings) -> None:
        """Called before it learns: NotReady where what its versions are served with has not been set."""

    def keep_before(self, folder: Path, parent: Path, new: Sequence[Line], known: Sequence[Line]) -> None:
        """Called with that bundle and its parent's; may put the parent's reader into it, for other images.

        `new` are the lines that the parent had not learned from.
        """

    def pictures(self, images: Sequence[Pixels]) -> dict[str, bytes]:
        """PNGs by name that show how the model sees images, for the run's page; most families have none."""
        return {}

    def parameter_groups(self, hyper: Hyper) -> list[dict[str, Any]]:
        """Trained parameters with the learning rate (`lr`) that each group has at full height."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "lr": hyper.lr}]
