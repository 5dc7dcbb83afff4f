"""Images with texts as an image-to-text model learns them, and how what it writes is marked.

An epoch depends on its number alone, so a resumed run meets what the interrupted one would have met.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from math import ceil
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, distributed

from redpencil import generate
from redpencil.caption_metrics import caption_scores
from redpencil.errors import BadInput
from redpencil.metrics import cer, distance, exact, wer
from redpencil.pixels import Pixels, scaled_for, to_tensor
from training.ahead import ahead
from training.crops import Line
from training.data import Deck
from training.hyper import Hyper
from training.image_to_text import ImageToText, cross_entropy
from training.job import Lines
from training.schedule import score
from training.torch_decoder import TorchDecoder

log = logging.getLogger(__name__)

IGNORED = -100
SIZE = 16  # images per batch of validation
MOST_HELD = 200  # images that validation reads; more would cost more than they tell
BY_HEART = 16  # learned images that are read instead, at most, where none were set aside


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Images with one text each; `targets` holds behind every token the next one, -100 for none."""

    features: Tensor  # [B, ...]
    tokens: Tensor  # int64 [B, S]
    targets: Tensor  # int64 [B, S]

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        return self.features, self.tokens

    def to(self, device: torch.device | str) -> TextBatch:
        return TextBatch(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class TextMarks:
    """What is written about images, against all their texts; rates against the nearest one."""

    loss: float
    cer: float
    wer: float
    exact: float
    bleu4: float
    rouge_l: float
    cider_d: float
    score: float


class ImageFeatures:
    """Every image once: itself, or, where a part of the model never learns, that part's answers."""

    def __init__(self, model: ImageToText, lines: Sequence[Line], hyper: Hyper) -> None:
        self.model, self.hyper = model, hyper
        self.lines = {x.image_id: x for x in lines}
        self.cached = type(model).features is not ImageToText.features
        self.kept: dict[tuple[str, int], Tensor] = {}

    def features(self, place: str, turn: int) -> Tensor:
        """[...] of one image as it is met in a pass; the first is the image itself."""
        if not self.cached:
            return self._of(place, turn)
        copy = turn % max(1, self.hyper.copies)
        if (place, copy) not in self.kept:
            self.kept[place, copy] = self._of(place, copy).half()
        return self.kept[place, copy].float()

    def _of(self, place: str, turn: int) -> Tensor:
        tensor = torch.from_numpy(to_tensor(self._seen(place, turn), self.model.preprocessing))
        if not self.cached:
            return tensor
        device = next(self.model.parameters()).device
        with torch.no_grad():
            return self.model.features(tensor[None].to(device))[0].cpu()

    def _seen(self, place: str, turn: int) -> Pixels:
        image = scaled_for(self.lines[place].image, self.model.preprocessing)
        if not (turn and self.hyper.augment):
            return image
        seed = [self.hyper.seed, turn, crc32(place.encode())]
        return self.model.augment(image, np.random.default_rng(seed), self.hyper.augment)


class TextLessons:
    """See `training.learner.Lessons`. Of what the parent knows as much is met as of what is new, if there is.

    With nothing set aside the marks are on some of what is learned, and say how well that is known by
    heart. The best epoch is then the one with the least loss, which falls from the first step on: errors
    of texts that are hardly known yet go up and down, and would spend the patience.
    """

    def __init__(self, model: ImageToText, lines: Lines, hyper: Hyper, rank: int, world: int) -> None:
        if not lines.learn:
            raise BadInput("there is no text to learn from")
        self.model, self.hyper, self.world = model, hyper, world
        new, old = (part[rank::world] or part for part in (lines.learn, lines.again))
        self.new, self.old = Deck(new, hyper.seed), Deck(old, hyper.seed)
        again = min(len(lines.learn), len(lines.again))
        self.share = again / (len(lines.learn) + again)
        self.images = ImageFeatures(model, [*new, *old], hyper)
        marked = lines.validate or lines.learn
        places = list(dict.fromkeys(x.image_id for x in marked))
        chosen = places[:MOST_HELD] if lines.validate else places[:: ceil(len(places) / BY_HEART)]
        self.held = {p: [x for x in marked if x.image_id == p] for p in chosen[rank::world]}
        self.best_by = model.best_by if lines.validate else "loss"
        self.shown = ImageFeatures(model, [x for here in self.held.values() for x in here], hyper)
        if rank == 0:
            _say_what_is_cut(model, lines.learn)

    def epoch(self, number: int) -> Generator[TextBatch, None, None]:
        """Where a part of the model never learns, its answers are kept, and there is nothing to prepare."""
        count = self.hyper.report_every * self.hyper.accumulate
        wanted = (partial(self._nth, n) for n in range(number * count, (number + 1) * count))
        return ahead(wanted, 0 if self.images.cached else self.hyper.loaders)

    def loss(self, answer: Tensor, batch: TextBatch) -> Tensor:
        return cross_entropy(answer, batch.targets, self.hyper.smoothing)

    def mark(self) -> TextMarks | None:
        """Loss by the given texts, and measures of what is written without seeing them."""
        self.model.eval()
        found: list[tuple[float, list[str], str]] = []
        places = list(self.held)
        for start in range(0, len(places), SIZE):
            found += self._mark(places[start : start + SIZE])
        if self.world > 1:
            parts: list[list[tuple[float, list[str], str]]] = [[]] * self.world
            distributed.all_gather_object(parts, found)
            found = [x for part in parts for x in part]
        return _marks(found, self.best_by) if found else None

    def _nth(self, batch: int) -> TextBatch:
        size = self.hyper.batch
        begin, end = (int(n * size * self.share) for n in (batch, batch + 1))  # of the old
        old = [(self.old.lines[i], turn) for i, turn in self.old.draws(begin, end - begin)]
        new = self.new.draws(batch * size - begin, size - end + begin)
        drawn = old + [(self.new.lines[i], turn) for i, turn in new]
        features = [self.images.features(line.image_id, turn + 1) for line, turn in drawn]
        return self._batch(features, [self.model.spell(line.text) for line, _ in drawn])

    def _mark(self, places: Sequence[str]) -> list[tuple[float, list[str], str]]:
        """Per image the loss of its first text, all its texts, and the one that is written."""
        device = next(self.model.parameters()).device
        features = torch.stack([self.shown.features(p, 0) for p in places]).to(device)
        texts = [[line.text for line in self.held[p]] for p in places]
        batch = self._batch(list(features), [self.model.spell(t[0]) for t in texts]).to(device)
        with torch.inference_mode():
            loss = float(cross_entropy(self.model(*batch.inputs), batch.targets, 0.0))
            memory = {f"memory.{n}": v.float().cpu().numpy() for n, v in self.model.encode(features).items()}
            written = generate.generate(TorchDecoder(self.model), memory, self.model.generation)
        said = [self.model.tokenizer.decode(tokens).strip() for tokens, _ in written]
        normal = self.model.tokenizer.normalizer  # of some families: they write no capitals
        wanted = [[normal.normalize_str(text) if normal else text for text in t] for t in texts]
        return [(loss, t, s) for t, s in zip(wanted, said, strict=True)]

    def _batch(self, features: Sequence[Tensor], spelled: Sequence[list[int]]) -> TextBatch:
        start = list(self.model.generation.start)
        longest = max(map(len, spelled))
        tokens = torch.full((len(spelled), len(start) + longest - 1), self.model.generation.end)
        targets = torch.full_like(tokens, IGNORED)
        for row, ids in enumerate(spelled):
            whole = torch.tensor([*start, *ids])
            tokens[row, : len(whole) - 1] = whole[:-1]
            targets[row, len(start) - 1 : len(whole) - 1] = whole[len(start) :]
        return TextBatch(torch.stack(list(features)), tokens, targets)


def _say_what_is_cut(model: ImageToText, lines: Sequence[Line]) -> None:
    longest, end = model.generation.longest, model.generation.end
    cut = sum(model.spell(line.text)[-1] != end for line in lines)
    if cut:
        said = "%d of %d texts have more than %d tokens, of which their beginning is learned: raise `longest`"
        log.warning(said, cut, len(lines), longest)


def _marks(found: Sequence[tuple[float, list[str], str]], best_by: str) -> TextMarks:
    references, said = [texts for _, texts, _ in found], [s for _, _, s in found]
    nearest = [(min(texts, key=lambda t: distance(t, s)), s) for _, texts, s in found]
    scores = caption_scores(references, said)
    errors, loss = cer(nearest), sum(loss for loss, _, _ in found) / len(found)
    least = {"cer": errors, "cider_d": -scores.cider_d, "loss": None}
    return TextMarks(
        loss=loss,
        cer=errors,
        wer=wer(nearest),
        exact=exact(nearest),
        bleu4=scores.bleu4,
        rouge_l=scores.rouge_l,
        cider_d=scores.cider_d,
        score=score(loss, least[best_by]),
    )
