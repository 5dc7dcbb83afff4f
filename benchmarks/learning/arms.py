"""Ways to learn from the same corrected lines: Redpencil's own, and simpler ones beside it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from redpencil.suspects import BOUND, Seen, weigh
from training import data, reach
from training.crops import Line
from training.device import autocast
from training.doubt import Statement, see
from training.hyper import Hyper
from training.quarantine import MOST
from training.recipe import LineModel, Recipe
from training.schedule import Patience, rate
from training.side_by_side import SideBySide


@dataclass(frozen=True)
class Arm:
    """What differs from the recipe as it ships."""

    about: str
    changed: Mapping[str, float] = field(default_factory=dict)
    head_only: bool = False
    held: bool = False
    wrong: float = 0.0  # share of the corrections that are; then what the readers doubt is left out


ALONE = {"replay": 0.0, "primer": 0, "channel_dropout": 0.0}
ARMS = {
    "ours": Arm("the recipe, its reach and what is familiar to it, as a training run has them", held=True),
    "wrong": Arm("the same with 5 % wrong corrections among them", held=True, wrong=0.05),
    "naive": Arm("the same layers and steps, the corrected lines alone", ALONE | {"copies": 1}),
    "head": Arm("the last layer alone, the corrected lines alone", ALONE, head_only=True),
}

USUAL = ("ours", "naive", "head")


def begin(chosen: Recipe, corrected: Sequence[Line], hyper: Hyper) -> LineModel:
    """The reader of the first day, able to learn these lines and what is rehearsed beside them."""
    torch.manual_seed(hyper.seed)
    rehearsed = data.rehearsal(hyper) if hyper.replay else []
    met = (*corrected, *data.primer(hyper, corrected), *rehearsed)
    model = chosen.build(None, [line.text for line in met], hyper)
    assert isinstance(model, LineModel)
    return model.eval()


def train(arm: Arm, model: LineModel, said: Sequence[Statement], hyper: Hyper) -> float:
    """Train a model in place on what was said; returns how far from its parent it goes.

    A run is told by the same look at its corrections which of them to leave out; where all are right none is.
    """
    parent, chance = copy.deepcopy(model), torch.get_rng_state()
    looked = see(lambda: copy.deepcopy(parent), said, hyper) if arm.held else None
    torch.set_rng_state(chance)
    doubted = left_out(looked.seen) if looked and arm.wrong else set()
    corrected = [s.line for s in said if s.line.key not in doubted]
    if arm.head_only:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("taught.head."))
    learn(model, corrected, hyper)
    if looked is None:
        return 1.0
    rendered = data.primer(hyper, corrected)
    share = 1.0 if rendered else looked.reach
    reach.go(model, reach.state(parent), reach.state(model), share)
    model.know(corrected, data.rehearsal(hyper), rendered)
    return share


def left_out(seen: Sequence[Seen]) -> set[str]:
    """The keys of what a run would not learn from: the most suspect above the bound, a fifth at most."""
    suspect = sorted((s for s in weigh(seen) if s.score >= BOUND), key=lambda s: -s.score)
    return {s.correction for s in suspect[: len(seen) // MOST]}


def learn(
    model: LineModel, corrected: Sequence[Line], hyper: Hyper, read: Sequence[Line] = ()
) -> list[float]:
    """Train as the loop does, with no line set aside; returns the mean loss of every epoch.

    `read` are lines that nobody corrected, as they were read.
    """
    rehearsed = [*(data.rehearsal(hyper) if hyper.replay else []), *read]
    met = [*model.as_printed(corrected), *data.primer(hyper, corrected)]
    hyper = data.suited(hyper, corrected).beside(len(met), len(read))
    batches = data.Batches(model, met, rehearsed, hyper)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, hyper.lr, weight_decay=hyper.weight_decay, fused=True)
    epochs = -(-hyper.total_steps(len(met), len(read)) // hyper.report_every)
    losses, cores = [], SideBySide(trained) if model.by_line else None

    def loss_of(batch: data.Batch) -> torch.Tensor:
        with autocast(torch.device("cpu"), hyper):
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
