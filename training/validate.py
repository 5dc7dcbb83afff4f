"""How well the model in training reads the lines that were set aside for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import distributed

from redpencil.decode import ctc_greedy
from redpencil.metrics import cer, exact, grapheme_cer, wer
from training.data import Stock, batched
from training.recipe import LineModel
from training.schedule import score

SIZE = 16  # lines per batch


@dataclass(frozen=True, slots=True)
class LineMarks:
    """Loss, error rates of characters, graphemes and words, and share of lines without a fault."""

    loss: float
    cer: float
    grapheme_cer: float
    wer: float
    exact: float

    @property
    def score(self) -> float:
        return score(self.loss, self.cer)


def mark(model: LineModel, held: Stock, world: int = 1) -> LineMarks | None:
    """Read every worker's held lines; the marks are of all together. None: no line is held."""
    model.eval()
    losses: list[float] = []
    pairs: list[tuple[str, str]] = []
    for chosen in _by_width(held):
        loss, texts = _read(model, held, chosen)
        losses += [loss] * len(chosen)
        pairs += [(held.lines[i].text, text) for i, text in zip(chosen, texts, strict=True)]
    if world > 1:
        parts: list[tuple[list[float], list[tuple[str, str]]]] = [([], [])] * world
        distributed.all_gather_object(parts, (losses, pairs))
        losses, pairs = [x for p in parts for x in p[0]], [x for p in parts for x in p[1]]
    if not pairs:
        return None
    return LineMarks(sum(losses) / len(losses), cer(pairs), grapheme_cer(pairs), wer(pairs), exact(pairs))


def _by_width(held: Stock) -> Iterator[list[int]]:
    order = sorted(range(len(held.lines)), key=lambda i: held.features(i, 0).shape[-1])
    return (order[start : start + SIZE] for start in range(0, len(order), SIZE))


def _read(model: LineModel, held: Stock, chosen: list[int]) -> tuple[float, list[str]]:
    device = next(model.parameters()).device
    batch = batched([(held.features(i, 0), held.classes[i]) for i in chosen]).to(device)
    with torch.inference_mode():
        logits, lengths = model(batch.features, batch.widths)
        loss = model.loss(logits, batch.targets, batch.target_lengths, lengths, 0.0)
        best = logits.float().softmax(-1).max(-1)
    indices, sure = best.indices.cpu().numpy(), best.values.cpu().numpy()
    ends = [int(n) for n in lengths]
    texts = [ctc_greedy(indices[r, :n], sure[r, :n], model.alphabet).text for r, n in enumerate(ends)]
    return float(loss), texts
