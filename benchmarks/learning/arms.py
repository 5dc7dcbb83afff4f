"""Ways to learn from the same corrected lines: Redpencil's own, and simpler ones beside it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from training import data
from training.data import Line
from training.doubt import Statement, see
from training.recipe import Hyper, LineModel
from training.schedule import Patience, rate
from training.side_by_side import SideBySide
from training.temper import temper, unrehearsed


@dataclass(frozen=True)
class Arm:
    """What differs from the recipe as it ships."""

    about: str
    changed: Mapping[str, float] = field(default_factory=dict)
    head_only: bool = False
    tempered: bool = False


ARMS = {
    "ours": Arm("the recipe and the way back towards the parent, as a training run has them", tempered=True),
    "naive": Arm("the same layers and steps, the corrected lines alone", {"replay": 0.0, "copies": 1}),
    "head": Arm("the last layer alone, the corrected lines alone", {"replay": 0.0}, head_only=True),
}


def train(arm: Arm, model: LineModel, corrected: Sequence[Line], hyper: Hyper) -> float:
    """Train a model in place; returns the share of the way from its parent that it keeps.

    A run is told by the same look at its corrections which of them to leave out; here all are right.
    """
    hyper = hyper.updated(arm.changed)
    tempered = arm.tempered and bool(hyper.replay)
    parent = copy.deepcopy(model)
    most = (
        see(lambda: copy.deepcopy(parent), [Statement(x) for x in corrected], hyper).reach
        if tempered
        else 1.0
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if arm.head_only:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("head."))
    learn(model, corrected, hyper)
    return temper(model, before, unrehearsed(hyper), most) if tempered else 1.0


def learn(model: LineModel, corrected: Sequence[Line], hyper: Hyper) -> list[float]:
    """Train as the loop does, with no line set aside; returns the mean loss of every epoch."""
    rehearsed = data.rehearsal(hyper) if hyper.replay else []
    batches = data.Batches(model, corrected, rehearsed, hyper)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, hyper.lr, weight_decay=hyper.weight_decay, fused=True)
    epochs = -(-hyper.total_steps(len(corrected)) // hyper.report_every)
    losses, cores = [], SideBySide(trained) if model.by_line else None

    def loss_of(batch: data.Batch) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=hyper.precision == "bf16"):
            logits, lengths = model(batch.features, batch.widths)
        targets = (batch.targets, batch.target_lengths)
        return model.loss(logits, *targets, lengths, hyper.smoothing, batch.rehearsed)

    model.train()
    for step, batch in enumerate(b for epoch in range(epochs) for b in batches.epoch(epoch)):
        for group in optimiser.param_groups:
            group["lr"] = hyper.lr * rate(hyper, step, epochs * hyper.report_every, Patience(0))
        optimiser.zero_grad()
        if cores:
            losses.append(cores.backward(batch, loss_of))
        else:
            loss = loss_of(batch)
            loss.backward()
            losses.append(float(loss.detach()))
        torch.nn.utils.clip_grad_norm_(trained, hyper.clip)
        optimiser.step()
    if cores:
        cores.pool.shutdown()
    model.eval()
    return [float(np.mean(part)) for part in np.split(np.array(losses), epochs)]
