"""From corrected lines to batches: the validation part, rehearsal, augmentation, cached features.

Everything is deterministic by seed, and an epoch depends on its number alone, so a resumed run
meets the batches that the interrupted one would have met.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from redpencil import linepack, vocab
from redpencil.ctc_beam import ctc
from redpencil.errors import BadInput
from redpencil.pixels import Pixels
from redpencil.reader import as_written
from redpencil.types import LineText, Member
from training import common_words
from training.ahead import ahead
from training.augment import augment
from training.crops import Line
from training.frozen import Frozen
from training.hyper import Hyper
from training.recipe import LineModel

FEWEST_LINES = 60  # below, every line is needed for learning
FEWEST_ASIDE = 3  # groups; fewer would tell of their own kind alone, and end what others need
EASTERN = "\u2e80"  # Chinese, Japanese and Korean begin here
BLACK_LETTER = "black letter"
BRINGS = 0.1  # share of the corrected lines that must be in a script for its primer to be opened
WIDTH_JITTER = 0.15  # of the logarithm of width over height


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines of nearly equal width; what a model's forward and loss take."""

    features: Tensor  # [B,...,V], zeros behind each line's end
    widths: Tensor  # int64 [B]
    targets: Tensor  # int64 [sum of target_lengths], classes
    target_lengths: Tensor  # int64 [B]
    rehearsed: Tensor  # bool [B], lines of the base domain

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        return self.features, self.widths

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(getattr(self, f.name).to(device) for f in fields(self)))


def rehearsal(hyper: Hyper) -> list[Line]:
    """Lines of the base domain to go over again; which ones is drawn by the seed."""
    packed = linepack.load("rehearsal")
    if hyper.rehearsed == "latin":
        packed = [line for line in packed if max(line.text) < EASTERN]
    chosen = np.random.default_rng(hyper.seed).permutation(len(packed))[: hyper.rehearsal]
    return [Line(packed[i].image, packed[i].text) for i in sorted(chosen)]


def primer(
    hyper: Hyper, corrected: Sequence[Line | Member], known: Sequence[Line | Member] = ()
) -> list[Line]:
    """Rendered lines of the scripts that the corrected lines bring, to be learned like these.

    They show letters that nobody has corrected yet; real lines take their place one by one, those too
    that are known to the parent. What these alone hold brings nothing: the parent has met it. Black letter
    says German things, so it is opened for German alone.
    """
    found: list[Line] = []
    for kind, marks in _brought(corrected) if hyper.primer else ():
        met = _written(marks, corrected) + _written(marks, known)
        packed = linepack.load("primer", kind)[: max(0, hyper.primer - met)]
        found += [Line(line.image, line.text) for line in packed]
    return found


def suited(hyper: Hyper, corrected: Sequence[Line | Member], known: Sequence[Line | Member] = ()) -> Hyper:
    """The parameters for these lines: others where they bring a script of which the parent has met less than
    a primer's worth."""
    brought = _brought(corrected) if hyper.primer else ()
    new = any(_written(marks, known) < hyper.primer for _, marks in brought)
    return hyper.in_new_script() if new else hyper


def _brought(corrected: Sequence[Line | Member]) -> list[tuple[str, frozenset[str]]]:
    """The kinds of the primer that corrected lines bring, and the characters that each is known by."""
    enough = max(1.0, BRINGS * len(corrected))
    found = [(kind, m) for kind, m in linepack.marks().items() if _written(m, corrected) >= enough]
    return [(kind, m) for kind, m in found if kind != BLACK_LETTER or _german(corrected)]


def _written(marks: Container[str], lines: Iterable[Line | Member]) -> int:
    """How many of the lines have one of the characters."""
    return sum(any(c in marks for c in line.text) for line in lines)


def _german(lines: Iterable[Line | Member]) -> bool:
    return common_words.mostly(line.text for line in lines) == "de"


def set_aside(
    corrected: Sequence[Line], share: float, known: Container[str] = ()
) -> tuple[list[Line], list[Line]]:
    """(learn, validate): the new lines of about `share` of their groups, chosen by hash, validate.

    New are lines whose keys are not `known`, or all where none is: how well a run learns these, other
    lines do not tell. Too few leave nothing to validate on: then a run ends with its steps.
    """
    new = [line for line in corrected if line.key not in known] or corrected
    groups = sorted({line.group for line in new}, key=_rank)
    count = min(round(share * len(groups)), len(groups) - 1)
    aside = set(groups[:count] if count >= FEWEST_ASIDE and len(new) >= FEWEST_LINES else ())
    parts: tuple[list[Line], list[Line]] = ([], [])
    fresh = {line.key for line in new}
    for line in corrected:
        parts[line.group in aside and line.key in fresh].append(line)
    return parts


def _rank(group: str) -> bytes:
    return hashlib.sha256(b"redpencil-validation-v1:" + group.encode()).digest()


class Deck:
    """Lines to be drawn: every turn meets each of them once, shuffled."""

    def __init__(self, lines: Sequence[Line], seed: int) -> None:
        self.lines, self.seed = lines, seed

    def draws(self, start: int, count: int) -> Iterator[tuple[int, int]]:
        """(index, turn) of the draws `start` onwards."""
        while count > 0:
            turn, skip = divmod(start, len(self.lines))
            order = np.random.default_rng([self.seed, turn]).permutation(len(self.lines))[skip : skip + count]
            yield from ((int(i), turn) for i in order)
            start, count = start + len(order), count - len(order)


class Stock(Deck):
    """Lines ready to be drawn: each as `copies` features, the line itself and augmented ones.

    Features are computed once, each line alone, and kept in half precision; every draw misses a share
    `dropped` of their channels, so that no reader relies on a few of them. With 0 copies
    nothing is kept and every draw is augmented anew, for models that freeze nothing.
    """

    def __init__(
        self,
        model: LineModel,
        lines: Sequence[Line],
        copies: int,
        strength: float,
        seed: int,
        dropped: float = 0.0,
    ) -> None:
        super().__init__(lines, seed)
        self.model, self.copies, self.strength, self.dropped = model, copies, strength, dropped
        self.classes = [torch.tensor(vocab.encode(x.text, model.alphabet), dtype=torch.long) for x in lines]
        self.frozen = Frozen(model)
        made = self.frozen.map(lambda draw: self._image(*draw), product(range(len(lines)), range(copies)))
        self.kept = [made[start : start + copies] for start in range(0, len(made), copies or 1)]

    def features(self, index: int, turn: int) -> Tensor:
        """One line's features [...,V] as they are met in the `turn`-th pass."""
        if self.copies:
            return self._partly(self.kept[index][(turn + index) % self.copies].float(), index, turn)
        return self.frozen.of(self._image(index, turn))

    def _partly(self, features: Tensor, index: int, turn: int) -> Tensor:
        """Some channels [C,...] are gone, the rest louder (spatial dropout: Tompson et al., CVPR 2015)."""
        if not self.dropped:
            return features
        rng = np.random.default_rng([self.seed, index, turn])
        seen = torch.from_numpy(rng.random(len(features)) >= self.dropped)
        return features * (seen / (1 - self.dropped)).view(-1, *[1] * (features.ndim - 1))

    def _image(self, index: int, copy: int) -> Pixels:
        image = self.lines[index].image
        if not (copy and self.strength):
            return image
        return augment(image, np.random.default_rng([self.seed, index, copy]), self.strength)


class Batches:
    """What a worker of a run learns from: its share of the lines, half remembered, half new.

    `known` are lines that the parent has learned from: in a pass as many of them are met as new ones,
    or all. `epoch(n)` gives `report_every` x `accumulate` batches, the same for the same n and seed,
    on every worker equally many.
    """

    def __init__(
        self,
        model: LineModel,
        corrected: Sequence[Line],
        rehearsed: Sequence[Line],
        hyper: Hyper,
        rank: int = 0,
        world: int = 1,
        known: Sequence[Line] = (),
    ) -> None:
        if not corrected:
            raise BadInput("there is no corrected line to learn from")
        self.hyper = hyper
        model.begin([line.text for line in (*corrected, *known, *rehearsed)])
        again = min(len(corrected), len(known))
        self.again = again / (len(corrected) + again)
        own, before = (part[rank::world] or part for part in (corrected, known))
        ways = (hyper.copies, hyper.augment, hyper.seed, hyper.channel_dropout)
        self.new, self.known = (Stock(model, lines, *ways) for lines in (own, before))
        self.old = Stock(model, rehearsed[rank::world] or rehearsed, 1, 0.0, hyper.seed)

    def epoch(self, number: int) -> Generator[Batch, None, None]:
        """The batches of one epoch, of nearly equal width each, in random order."""
        return ahead((partial(self._batch, met) for met in self.draws(number)), self.hyper.loaders)

    def draws(self, number: int) -> Iterator[list[tuple[Stock, int, int]]]:
        """The same as (stock, index, turn) of every line."""
        count = self.hyper.report_every * self.hyper.accumulate
        old = round(count * self.hyper.batch * self.hyper.replay) if self.old.lines else 0
        again = round((count * self.hyper.batch - old) * self.again)
        new = count * self.hyper.batch - old - again
        parts = ((self.new, new), (self.known, again), (self.old, old))
        drawn = [(stock, *d) for stock, n in parts for d in stock.draws(number * n, n)]
        rng = np.random.default_rng([self.hyper.seed, number])
        # Widths are jittered so that the same lines do not always meet.
        widths = [s.lines[i].image.shape[1] / s.lines[i].image.shape[0] for s, i, _ in drawn]
        order = np.argsort(np.log(widths) + rng.normal(0, WIDTH_JITTER, len(drawn)))
        for chosen in rng.permutation(order.reshape(count, self.hyper.batch)):
            yield [drawn[c] for c in chosen]

    def _batch(self, met: list[tuple[Stock, int, int]]) -> Batch:
        rehearsed = torch.tensor([stock is self.old for stock, _, _ in met])
        return batched([(s.features(i, t), s.classes[i]) for s, i, t in met], rehearsed)


def batched(items: Sequence[tuple[Tensor, Tensor]], rehearsed: Tensor | None = None) -> Batch:
    """Features [...,V] and classes of several lines as one batch, padded to the widest."""
    features, classes = zip(*items, strict=True)
    widths = torch.tensor([f.shape[-1] for f in features])
    widest = int(widths.max())
    padded = torch.stack([F.pad(f, (0, widest - f.shape[-1])) for f in features])
    lengths = torch.tensor([len(c) for c in classes])
    if rehearsed is None:
        rehearsed = torch.zeros(len(items), dtype=torch.bool)
    return Batch(padded, widths, torch.cat(classes), lengths, rehearsed)


def read(model: LineModel, features: Sequence[Tensor], size: int = 16) -> list[LineText]:
    """What the model reads in lines given by their features; the order is kept."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    order = sorted(range(len(features)), key=lambda i: features[i].shape[-1])
    found: dict[int, LineText] = {}
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        none = torch.zeros(0, dtype=torch.long)
        batch = batched([(features[i].float(), none) for i in chosen]).to(device)
        with torch.inference_mode():
            classes, sure, own, lengths = (t.cpu() for t in model.heard(batch.features, batch.widths))
        for row, i in enumerate(chosen):
            steps = classes[row, : lengths[row]].numpy(), sure[row, : lengths[row]].numpy()
            language = model.language and model.language.of_line(bool(own[row]))
            found[i] = as_written(ctc(*steps, model.alphabet, language), int(own[row]))
    model.train(was_training)
    return [found[i] for i in range(len(features))]
