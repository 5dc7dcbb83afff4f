"""Corrected lines as readers see them who did not learn from them, before a run learns from them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import cos, inf, isinf, pi

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from redpencil import vocab
from redpencil.ctc_beam import ctc
from redpencil.language import Language
from redpencil.metrics import distance
from redpencil.suspects import Opinion, Seen
from training import reach, side_by_side
from training.crops import Line
from training.data import Batch, batched
from training.frozen import Frozen
from training.hyper import Hyper
from training.recipe import FOLLOWED, LineModel

FEWEST = 40
"""Lines, below which readers of their own would learn too little: the parent alone is asked."""
STEPS, PASSES = 60, 5.0
"""How long such a reader learns, at least: too short to learn a slip by heart."""
BESIDE = 8
"""Neighbours before and after a line with whose texts its own may have been mixed up."""
OTHERS = 16
"""Texts of other lines about as long, to compare with."""
UNSAID = -1000.0
"""Logits below this are of characters that a reader cannot say; to them it is as if least likely."""
SIZE = 16  # lines per batch
MEASURED = 200  # lines per reader by which the way back is measured, at most


@dataclass(frozen=True, slots=True)
class Statement:
    """A corrected line, who said so, and what else was said of its place before.

    `held` are lines that are held out: they are judged, and no reader learns from them.
    """

    line: Line
    author: str = ""
    earlier: Sequence[str] = ()
    held: bool = False


@dataclass(frozen=True, slots=True)
class Sight:
    """What readers make of statements, and how much of the way from the parent a run needs for them."""

    seen: list[Seen]
    reach: float = 1.0


def see(build: Callable[[], LineModel], said: Sequence[Statement], hyper: Hyper) -> Sight:
    """What readers make of statements that are given in reading order.

    `build` gives the parent, able to spell every text. Two readers go on from it, each with one
    half of the lines, and judge the other half, and each half of those that are held out; the parent judges
    all. The two learn side by side,
    each on its own processors: cores gain little by sharing one reader's small matrices. What a family
    drops at random they draw from one source, so there two looks at the same lines differ a little.
    """
    room = Room(build, said)
    opinions = [[opinion] for opinion in room.opinions(room.parent, range(len(said)))]
    far = 1.0
    learned = [i for i, s in enumerate(said) if not s.held]
    held = [i for i, s in enumerate(said) if s.held]
    if len(learned) >= reach.FEWEST:
        half = np.random.default_rng(hyper.seed).permutation(len(learned)) % 2
        sides = [np.array(learned)[half == side].tolist() for side in (0, 1)]
        own = max(1, torch.get_num_threads() // 2)
        with side_by_side.threads(2, own) as both:
            found = list(both.map(room.crossed, sides, sides[::-1], (held[::2], held[1::2]), (hyper, hyper)))
        far = reach.least([wrong for _, wrong in found])
        for i, opinion in chain.from_iterable(heard for heard, _ in found if len(learned) >= FEWEST):
            opinions[i].append(opinion)
    seen = [
        Seen(s.line.key, s.author, s.line.group, text, of_it)
        for s, text, of_it in zip(said, room.texts, opinions, strict=True)
    ]
    return Sight(seen, far)


class Room:
    """The lines with their features. What is read here is spelled with the characters that occur here."""

    def __init__(self, build: Callable[[], LineModel], said: Sequence[Statement]) -> None:
        torch.manual_seed(0)
        self.build, self.said, self.parent = build, said, build().eval()
        self.texts = [line.text for line in self.parent.as_printed([s.line for s in said])]
        self.alphabet = vocab.grow((), (*self.texts, *(t for s in said for t in s.earlier)))
        self.columns = [0, *vocab.classes_of(self.alphabet, self.parent.alphabet)]
        self.features = Frozen(self.parent).map(lambda s: s.line.image, said)
        self.by_length = np.argsort([len(t) for t in self.texts], kind="stable")
        self.rank = np.argsort(self.by_length)

    def crossed(
        self, learn: Sequence[int], judge: Sequence[int], held: Sequence[int], hyper: Hyper
    ) -> tuple[list[tuple[int, Opinion]], list[int]]:
        """What a reader taught by some of the lines makes of others, and its errors on the way back, of
        those that are not held out."""
        reader = self.taught(learn, hyper)
        words = self.parent.language.words if self.parent.language else None
        spoken = Language.of((self.texts[i] for i in learn), words)
        asked = [*judge, *held]
        said = list(zip(asked, self.opinions(reader, asked, spoken), strict=True))
        measured = np.random.default_rng(hyper.seed).permutation(judge)[:MEASURED].tolist()
        read = {i: opinion.reading for i, opinion in said}
        here = sum(distance(self.texts[i], read[i]) for i in measured)
        return said, reach.errors(
            self.parent, reader, here, lambda model: self.errors(model, measured, spoken)
        )

    def taught(self, chosen: Sequence[int], hyper: Hyper) -> LineModel:
        """The parent after a short training on some of the lines."""
        torch.manual_seed(hyper.seed)
        model = self.build()
        model.begin([self.texts[i] for i in chosen])
        steps = max(STEPS, round(PASSES * len(chosen) / hyper.batch))
        trained = [p for p in model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trained, hyper.lr, weight_decay=0.0, fused=True)
        model.train()
        for step, batch in zip(range(steps), self._batches(model, chosen, hyper), strict=False):
            for group in optimiser.param_groups:
                group["lr"] = hyper.lr * min(1.0, (step + 1) / 3) * (1 + cos(pi * step / steps)) / 2
            optimiser.zero_grad(set_to_none=True)
            logits, lengths = model(*batch.inputs)
            model.loss(logits, batch.targets, batch.target_lengths, lengths, 0.0).backward()
            torch.nn.utils.clip_grad_norm_(trained, hyper.clip or inf)
            optimiser.step()
        return model.eval()

    def _batches(self, model: LineModel, chosen: Sequence[int], hyper: Hyper) -> Iterator[Batch]:
        """Without end; in every pass each line is met once, beside others about as wide."""
        rng = np.random.default_rng(hyper.seed)
        classes = {i: torch.tensor(vocab.encode(self.texts[i], model.alphabet)) for i in chosen}
        widths = {i: self.features[i].shape[-1] for i in chosen}
        while True:
            order = rng.permutation(chosen)
            order = np.resize(order, hyper.batch * -(-len(order) // hyper.batch))
            jitter = rng.normal(0, 0.15, len(order))
            order = order[np.argsort(np.log([widths[i] for i in order]) + jitter)]
            for met in rng.permutation(order.reshape(-1, hyper.batch)):
                yield batched([(self.features[i].float(), classes[i].long()) for i in met])

    def opinions(
        self, model: LineModel, chosen: Sequence[int], spoken: Language | None = None
    ) -> list[Opinion]:
        """What a model makes of some of the lines, in their order, in doubt by what else is spoken."""
        found = {i: self._opinion(i, logp, spoken) for i, logp in self._heard(model, chosen)}
        return [found[i] for i in chosen]

    def errors(self, model: LineModel, chosen: Sequence[int], spoken: Language) -> int:
        """Wrong characters of a model on some of the lines."""
        heard = self._heard(model, chosen)
        return sum(distance(self.texts[i], self._reading(logp, spoken)) for i, logp in heard)

    def _heard(self, model: LineModel, chosen: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Some lines, in any order, with log probabilities [T, K] of the characters that occur here."""
        order = sorted(chosen, key=lambda i: self.features[i].shape[-1])
        none = torch.zeros(0, dtype=torch.long)
        for start in range(0, len(order), SIZE):
            some = order[start : start + SIZE]
            batch = batched([(self.features[i].float(), none) for i in some])
            with torch.inference_mode():
                logits, lengths = model(*batch.inputs)
                logp = _sayable(logits[..., self.columns].float()).log_softmax(-1)
            yield from ((i, logp[row, : int(lengths[row])]) for row, i in enumerate(some))

    def _reading(self, logp: Tensor, spoken: Language | None) -> str:
        best = logp.topk(min(FOLLOWED, logp.shape[-1]), -1)
        return ctc(best.indices.numpy(), best.values.exp().numpy(), self.alphabet, spoken).text

    def _opinion(self, i: int, logp: Tensor, spoken: Language | None) -> Opinion:
        """Where writing is denser than the model's steps, each is heard twice, or its text had no room."""
        reading = self._reading(logp, spoken)
        if isinf(self._costs(logp, [self.texts[i]])[0]):
            logp = logp.repeat_interleave(2, 0)
        near, others = self._near(i), self._others(i)
        earlier = list(self.said[i].earlier)
        costs = iter(self._costs(logp, [self.texts[i], reading, *others, *near, *earlier]))
        cost, reading_cost = next(costs), next(costs)
        return Opinion(
            reading,
            reading_cost,
            cost,
            [next(costs) for _ in others],
            {t: next(costs) for t in near},
            {t: next(costs) for t in earlier},
        )

    def _near(self, i: int) -> list[str]:
        """Texts of the neighbours within the document that differ from the line's own."""
        around = range(max(0, i - BESIDE), min(len(self.said), i + BESIDE + 1))
        same = [self.texts[j] for j in around if self.said[j].line.group == self.said[i].line.group]
        return [t for t in dict.fromkeys(same) if t != self.texts[i]]

    def _others(self, i: int) -> list[str]:
        """Texts of other lines that are about as long."""
        at, wide = int(self.rank[i]), 2 * OTHERS
        around = [self.texts[j] for j in self.by_length[max(0, at - wide) : at + wide + 1]]
        different = [t for t in dict.fromkeys(around) if t != self.texts[i]]
        return sorted(different, key=lambda t: abs(len(t) - len(self.texts[i])))[:OTHERS]

    def _costs(self, logp: Tensor, texts: Sequence[str]) -> list[float]:
        """Nats of each text under log probabilities [T, K]; infinite where it has no room."""
        classes = [torch.tensor(vocab.encode(t, self.alphabet), dtype=torch.long) for t in texts]
        lengths, steps = torch.tensor([len(c) for c in classes]), torch.full((len(texts),), len(logp))
        repeated = logp[:, None].expand(-1, len(texts), -1)
        costs = F.ctc_loss(repeated, torch.cat(classes), steps, lengths, reduction="none")
        return [float(cost) for cost in costs]


def _sayable(logits: Tensor) -> Tensor:
    """Logits [...,K] in which no character is beyond all reach."""
    never = logits < UNSAID
    least = logits.masked_fill(never, torch.inf).amin(-1, keepdim=True)
    return torch.where(never, least, logits)
