"""The only training loop. One worker runs all of it; several divide every batch among them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from math import ceil, inf, isfinite
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from redpencil.errors import RedpencilError
from training.device import autocast, spread
from training.hyper import Hyper
from training.job import Cancelled, Ended, Lines, learned, restore
from training.learner import Batch, Learner, Marks
from training.place import Place
from training.schedule import Patience, rate
from training.side_by_side import SideBySide

REMEDY = "try a lower learning rate (lr), a smaller clip, or precision fp32"


class Diverged(RedpencilError):
    """The loss is no longer a number; the run cannot go on."""


class Watcher(Protocol):
    """Who follows a run from outside; called by the first worker alone."""

    def step(self, progress: dict[str, Any]) -> bool:
        """Told after each step how far it is; True asks the run to stop."""

    def epoch(self, history: list[dict[str, Any]]) -> None:
        """Told after each epoch everything so far."""


class Loop:
    """One worker's part of a training run.

    Each epoch draws its batches and its randomness from the seed and its own number, so a run
    that was killed goes on exactly as if nothing had happened.
    """

    def __init__(self, hyper: Hyper, model: Learner, lines: Lines, watcher: Watcher, place: Place) -> None:
        self.place, self.rank, self.world, self.device = place, place.rank, place.world, place.device
        # The workers share every batch, so that their number does not change what is learned.
        hyper = hyper.beside(lines.a_pass, len(lines.read))
        every = hyper.report_every or max(1, round(hyper.pass_steps(lines.a_pass)))
        self.hyper = replace(hyper, batch=ceil(hyper.batch / self.world), report_every=every)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # collectives of objects go by the current one
        self.model, self.watcher = model.to(self.device), watcher
        self.lessons = model.lessons(lines, self.hyper, self.rank, self.world)
        self.counts = lines.counts()
        self.marked = "val" if lines.validate else "heart"
        self.epochs = ceil(hyper.total_steps(lines.a_pass, len(lines.read)) / self.hyper.report_every)
        groups = [{**group, "full": group["lr"]} for group in model.parameter_groups(self.hyper)]
        self.trained = [p for group in groups for p in group["params"]]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=self.hyper.weight_decay, fused=True)
        self.forward = spread(self.model, self.device, self.world)
        alone = self.world == 1 and self.device.type == "cpu"
        self.side_by_side = SideBySide(self.trained) if alone and model.by_line else None
        self.patience = Patience(self.hyper.patience)
        self.history: list[dict[str, Any]] = []
        self.epoch = self.first_step = 0
        self.stop = False
        self.started = time.monotonic()

    @property
    def steps(self) -> int:
        return self.epochs * self.hyper.report_every

    def run(self) -> Ended:
        """Train from the latest checkpoint, or from the start, to the end."""
        self._resume()
        if not self.history:
            self._note(self.lessons.mark(), {})
        try:
            while self.epoch < self.epochs and not self.patience.spent:
                self._epoch()
        except Diverged as error:
            return self._ended("failed", str(error))
        except Cancelled as error:
            return self._ended("cancelled", str(error))
        return self._ended("done", "")

    def _epoch(self) -> None:
        began = time.monotonic()
        torch.manual_seed(self.hyper.seed * 1_000_003 + self.epoch * 1009 + self.rank)
        self.model.train()
        first = self.epoch * self.hyper.report_every
        with closing(self.lessons.epoch(self.epoch)) as batches:
            losses = [self._step(first + i, batches) for i in range(self.hyper.report_every)]
        self.epoch += 1
        trained = {"loss": sum(losses) / len(losses), "lr": self.optimiser.param_groups[0]["lr"]}
        lines = len(losses) * self.hyper.accumulate * self.hyper.batch * self.world
        trained["lines_per_s"] = lines / (time.monotonic() - began)
        marks = self.lessons.mark()
        value = marks.score if marks else -float(self.epoch)  # nothing tells epochs apart: the last is kept
        best = self.patience.saw(self.epoch, value)
        self._note(marks, trained)
        self.place.keep(self._state, value, self.epoch, best)

    def _step(self, step: int, batches: Iterator[Batch]) -> float:
        """One optimiser step; returns its loss, averaged over batches and workers."""
        share = rate(self.hyper, step, self.steps, self.patience)
        for group in self.optimiser.param_groups:
            group["lr"] = group["full"] * share
        self.optimiser.zero_grad(set_to_none=True)
        last = self.hyper.accumulate - 1
        loss = self._agree(sum(self._backward(next(batches), i == last) for i in range(last + 1)))
        norm = float(clip_grad_norm_(self.trained, self.hyper.clip or inf))
        if not (isfinite(loss) and isfinite(norm)):
            raise Diverged(f"at step {step + 1} the loss is {loss}, its gradient {norm}; {REMEDY}")
        self.optimiser.step()
        if self.rank == 0:
            self.stop = self.watcher.step(self._progress(step + 1, loss))
        return loss

    def _backward(self, batch: Any, last: bool) -> float:
        """Add one batch's gradient; workers exchange theirs at the last batch of a step."""
        batch = batch.to(self.device)
        if self.side_by_side:
            return self.side_by_side.backward(batch, self._loss)
        together = self.forward if isinstance(self.forward, DistributedDataParallel) else None
        with together.no_sync() if together and not last else nullcontext():
            loss = self._loss(batch)
            loss.backward()
        return float(loss.detach())

    def _loss(self, batch: Batch) -> Tensor:
        """A batch's part of a step's loss."""
        with autocast(self.device, self.hyper):
            answer = self.forward(*batch.inputs)
        return self.lessons.loss(answer, batch) / self.hyper.accumulate

    def _agree(self, loss: float) -> float:
        """The mean loss of all workers; raises Cancelled on all of them where the first was asked to."""
        said = torch.tensor([loss / self.world, float(self.stop)], device=self.device)
        if self.world > 1:
            distributed.all_reduce(said)
        mean, stop = said.tolist()
        if stop:
            raise Cancelled("cancelled on request")
        return float(mean)

    def _note(self, marks: Marks | None, trained: dict[str, float]) -> None:
        """Add an epoch's record to the history."""
        record = {"epoch": self.epoch, "step": self.epoch * self.hyper.report_every, "at": time.time()}
        found = {f"{self.marked}_{k}": v for k, v in asdict(marks).items()} if marks else {}
        self.history.append({**record, **trained, **found})
        if self.rank == 0:
            self.watcher.epoch(self.history)

    def _progress(self, step: int, loss: float) -> dict[str, Any]:
        pace = (time.monotonic() - self.started) / (step - self.first_step)
        said = {"epoch": self.epoch + 1, "epochs": self.epochs, "step": step, "steps": self.steps}
        val_cer = self.history[-1].get("val_cer")
        return {**said, "loss": loss, "val_cer": val_cer, "eta_s": round(pace * (self.steps - step), 1)}

    def _state(self) -> dict[str, Any]:
        return {
            "model": learned(self.model),
            "alphabet": list(self.model.alphabet),
            "optimiser": self.optimiser.state_dict(),
            "patience": self.patience.state(),
            "epoch": self.epoch,
            "history": self.history,
        }

    def _resume(self) -> None:
        state = self.place.latest()
        if state is None:
            return
        restore(self.model, state)
        self.optimiser.load_state_dict(state["optimiser"])
        self.patience.restore(state["patience"])
        self.epoch, self.history = state["epoch"], state["history"]
        self.first_step = self.epoch * self.hyper.report_every

    def _ended(self, how: Literal["done", "cancelled", "failed"], why: str) -> Ended:
        return Ended(how, why, self.history, self.patience.best_epoch, self.counts)
