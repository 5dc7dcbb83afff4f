"""One training run as its workers see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from torch import Tensor

from redpencil import checkpoints
from redpencil.blobs import Blobs
from redpencil.bundle import fetch
from redpencil.errors import Damaged, RedpencilError
from redpencil.settings import Settings
from redpencil.types import Member, Run, Snapshot, Split
from training import crops, data, recipe
from training.crops import Line
from training.hyper import Hyper
from training.learner import Learner

FEWEST_SHOWN = 40
"""Lines of each kind that a graph is checked with, if there are so many."""

BEST = "best.pt"
"""The best checkpoint, in the job's folder and among those that a run alone keeps."""


class Cancelled(RedpencilError):
    """A person asked the run to stop."""


@dataclass(frozen=True)
class Lines:
    """What a run meets: corrected lines to learn from and to validate on, base lines to rehearse,
    corrected lines that its parent knows and that it goes over again, a primer of new scripts, and
    uncorrected lines as its teacher reads them, which are rehearsed as well."""

    learn: list[Line]
    validate: list[Line]
    rehearse: list[Line] = field(default_factory=list)
    again: list[Line] = field(default_factory=list)
    primer: list[Line] = field(default_factory=list)
    read: list[Line] = field(default_factory=list)

    @property
    def a_pass(self) -> int:
        """How many are met in a pass: all that are new, as many of those before, and the primer."""
        return len(self.learn) + min(len(self.learn), len(self.again)) + len(self.primer)

    def shown(self) -> list[Line]:
        """What graphs are checked with and INT8 is fitted to: all that is new, and of other kinds as many."""
        rng, most = np.random.default_rng(0), max(len(self.learn), FEWEST_SHOWN)
        others = (self.again, self.read, self.rehearse)
        drawn = [kind[i] for kind in others for i in sorted(rng.permutation(len(kind))[:most])]
        return [*self.learn, *drawn]

    def counts(self) -> dict[str, int]:
        return {f.name: len(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True)
class Job:
    """All that decides how a run goes; the same job gives the same model. `parent` is a bundle's id.

    `known` are corrections that the parent has learned from; `left_out` are such that the run
    doubts and does not learn from (training/quarantine.py). `read` are lines that nobody corrected,
    as the run's teacher reads them (training/unlabelled.py).
    """

    run: Run
    hyper: Hyper
    snapshot: Snapshot
    parent: str | None
    settings: Settings
    known: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    read: tuple[Member, ...] = ()

    @property
    def folder(self) -> Path:
        """Where this machine keeps what it works on for the run."""
        return working(self.settings, self.run.id)

    @property
    def taught_by(self) -> str:
        """The run that learns: this one, or the one of whose checkpoint it makes a version."""
        of = checkpoints.asked(self.run)
        return of[0] if of else self.run.id

    @property
    def reach(self) -> float:
        """How much of the way from its parent the run goes at most (training/reach.py)."""
        return float(self.run.params.get("reach", 1.0))

    @property
    def members(self) -> list[Member]:
        """What may be learned from: the snapshot's train side without what is left out."""
        return [m for m in self.snapshot.side(Split.TRAIN) if m.correction not in self.left_out]

    @property
    def new(self) -> list[Member]:
        """The members that the parent has not learned from."""
        return [m for m in self.members if m.correction not in self.known]

    @property
    def old(self) -> list[Member]:
        """The others."""
        return [m for m in self.members if m.correction in self.known]

    @property
    def rendered(self) -> list[Line]:
        """The primer of what its new lines bring, or all of them where none is new."""
        return data.primer(self.hyper, self.new or self.old, self.old if self.new else ())

    @property
    def suited(self) -> Hyper:
        """`hyper` as it is taken for these lines; see `training.data.suited`."""
        return data.suited(self.hyper, self.new or self.old, self.old)

    @property
    def again(self) -> list[Member]:
        """A random part of the others: the work grows with what is new, not with all that ever was."""
        old, most = self.old, max(self.hyper.earlier, len(self.new))
        drawn = np.random.default_rng(self.hyper.seed).permutation(len(old))[:most]
        return [old[i] for i in sorted(drawn)]

    @property
    def about(self) -> dict[str, Any]:
        """What is said beside each of its checkpoints."""
        run = self.run
        named = {"recipe": run.recipe, "run": run.id, "parent": run.params.get("parent")}
        return named | {"hyper": self.suited.to_dict()}

    def lines(self, blobs: Blobs) -> Lines:
        """What is new, some of the rest, and the rehearsal; the holdout is never opened here."""
        most = self.settings.max_pixels, self.settings.max_pages
        cut = crops.lines([*self.again, *self.new], blobs, *most)
        rehearsed = data.rehearsal(self.hyper) if self.hyper.replay else []
        learn, aside = data.set_aside(cut, self.hyper.validation, self.known)
        old = [line for line in learn if line.key in self.known]
        new = [line for line in learn if line.key not in self.known]
        read = [replace(line, key="", place="") for line in crops.lines(self.read, blobs, *most)]
        return Lines(new or old, aside, rehearsed, old if new else [], self.rendered, read)

    def build(self, blobs: Blobs, lines: Lines) -> Learner:
        """The model before its first step, the same on every worker and after every restart."""
        torch.manual_seed(self.hyper.seed)
        parent = fetch(self.parent, blobs, self.settings.home / "bundles") if self.parent else None
        corrected = (*lines.again, *lines.learn, *lines.validate)
        texts = [x.text for x in (*corrected, *lines.primer, *lines.rehearse, *lines.read)]
        return recipe.find(self.run.recipe).build(parent, texts, self.hyper)


@dataclass(frozen=True)
class Ended:
    """How the loop ended. `history` has one record per epoch, the first of them before any step."""

    how: Literal["done", "cancelled", "failed"]
    why: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, Any]:
        """The record of the best epoch."""
        return next(r for r in self.history if r["epoch"] == self.best_epoch)


def learned(model: Learner) -> dict[str, Tensor]:
    """The part of a model's state that training changes: trainable parameters and buffers."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def restore(model: Learner, state: Mapping[str, Any]) -> None:
    """Put a checkpoint's learned state into a freshly built model; Damaged where it does not fit."""
    if tuple(state["alphabet"]) != model.alphabet:
        raise Damaged("the checkpoint was trained with another alphabet; start a new run")
    if set(state["model"]) != set(learned(model)):
        raise Damaged("the checkpoint is of another model; start a new run")
    model.load_state_dict(dict(state["model"]), strict=False)


def described(about: Mapping[str, Any], record: Mapping[str, Any]) -> bytes:
    """The file beside a checkpoint: what it is of, and its epoch's record, as JSON."""
    scores = {name: value for name, value in record.items() if name not in ("epoch", "step", "at")}
    told = {**about, "epoch": record["epoch"], "step": record["step"], "scores": scores}
    return json.dumps(told, indent=2, ensure_ascii=False).encode("utf-8")


def load(file: Path | IO[bytes]) -> dict[str, Any]:
    """A checkpoint's content; only tensors and plain values are accepted, never code."""
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def working(settings: Settings, run: str) -> Path:
    """The folder in which this machine works on a run."""
    return settings.home / "runs" / run
