"""Teach the small reader what the big one knows: makes redpencil/data/crnn.npz, from which `crnn` starts.

    python -m training.distil lines.zip --out redpencil/data/crnn.npz

`lines.zip` comes from training/teacher.py. The pupil learns each text, by CTC, and where it was asked about,
to say at every step what the teacher says there (Hinton et al. 2015, arXiv 1503.02531): without the second
it says nothing at all for its first ten thousand lines. Killed, it goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pyarrow.fs import LocalFileSystem
from torch import Tensor

from redpencil import linepack
from redpencil.errors import RedpencilError
from redpencil.pixels import Pixels
from training import priority, validate
from training.crops import Line
from training.data import Batch, Batches, Stock, batched
from training.hyper import Hyper
from training.job import BEST, Lines, load, restore
from training.loop import Loop
from training.place import Alone
from training.recipes import crnn
from training.rough import rough
from training.teacher import Lesson
from training.teacher import load as opened

LETTER = 3.0
"""What a step that shows a letter counts, beside the many that show none."""
HYPER = Hyper(
    lr=2e-3, steps=5200, passes=0, report_every=400, batch=16, warmup=0.03, clip=5.0, weight_decay=1e-4,
    replay=0.0, rehearsal=0, copies=0, augment=1.0, patience=0, precision="bf16",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Heard:
    """A batch, and of each of its lines what the teacher says: classes and shares [T,KEPT]."""

    batch: Batch
    said: list[tuple[Tensor, Tensor]]

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        return self.batch.inputs

    def to(self, device: torch.device | str) -> Heard:
        return Heard(self.batch.to(device), [(c.to(device), s.to(device)) for c, s in self.said])


class Pupil(crnn.CRNN):
    """A reader from scratch that learns from a teacher's lessons."""

    def __init__(self, alphabet: tuple[str, ...], learned: Sequence[Lesson]) -> None:
        super().__init__(alphabet)
        self.learned = learned

    def lessons(self, lines: Lines, hyper: Hyper, rank: int = 0, world: int = 1) -> PupilLessons:
        return PupilLessons(self, lines, hyper)


class Roughened(Stock):
    """Lessons as real crops may look, a new way whenever they are met."""

    def _image(self, index: int, copy: int) -> Pixels:
        return rough(super()._image(index, copy), np.random.default_rng([self.seed, index, copy, 1]))


class PupilLessons:
    """See `training.learner.Lessons`; marked on the lines of the golden pack that the pupil can spell."""

    def __init__(self, model: Pupil, lines: Lines, hyper: Hyper) -> None:
        self.model = model
        # A lesson is a line as far as a stock needs one, whose image is decoded when it is met.
        learned = cast(Sequence[Line], model.learned)
        self.batches = Batches(model, learned, [], hyper)
        self.batches.new = Roughened(model, learned, hyper.copies, hyper.augment, hyper.seed)
        self.held = Stock(model, lines.validate, 1, 0.0, hyper.seed)

    def epoch(self, number: int) -> Generator[Heard, None, None]:
        for met in self.batches.draws(number):
            batch = batched([(s.features(i, t), s.classes[i]) for s, i, t in met])
            lessons = [self.model.learned[i] for _, i, _ in met]
            yield Heard(batch, [_tensors(lesson) for lesson in lessons])

    def loss(self, answer: tuple[Tensor, Tensor], heard: Heard) -> Tensor:
        (logits, lengths), batch = answer, heard.batch
        ctc = self.model.loss(logits, batch.targets, batch.target_lengths, lengths, 0.0)
        return ctc + distillation_loss(logits.float().log_softmax(-1), lengths, heard.said)

    def mark(self) -> validate.LineMarks | None:
        return validate.mark(self.model, self.held)


def _tensors(lesson: Lesson) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(lesson.classes.astype(np.int64)), torch.from_numpy(lesson.shares).float()


def distillation_loss(logp: Tensor, lengths: Tensor, said: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """How far a pupil's log probabilities [B,T,K] are from what the teacher says at the same places.

    The cross-entropy of a step, letters weighed by LETTER. The teacher's steps may be fewer or more: each of
    the pupil's is compared with the one that lies where it does. Lines without a word count nothing.
    """
    total, weight = logp.new_zeros(()), 0.0
    for row, (length, (classes, shares)) in enumerate(zip(lengths.tolist(), said, strict=True)):
        if not len(classes):
            continue
        at = ((torch.arange(length, device=logp.device) + 0.5) * len(classes) / length).long()
        each = torch.where(classes[at, 0] > 0, LETTER, 1.0)
        cross = -(shares[at] * logp[row, :length].gather(-1, classes[at])).sum(-1)
        total, weight = total + (each * cross).sum(), weight + float(each.sum())
    return total / max(weight, 1.0)


class EpochPrinter:
    """A watcher that prints every epoch and never stops."""

    def step(self, progress: dict[str, Any]) -> bool:
        return False

    def epoch(self, history: list[dict[str, Any]]) -> None:
        now = {k: round(v, 5) for k, v in history[-1].items() if k != "at"}
        print(" ".join(f"{name} {value}" for name, value in now.items()), file=sys.stderr, flush=True)


def learn(pupil: Pupil, hyper: Hyper, folder: Path) -> None:
    """Train to the end, or go on from the checkpoints in the folder; the pupil is then as good as it was."""
    held = [Line(x.image, x.text) for x in linepack.load("golden") if set(x.text) <= set(pupil.alphabet)]
    place = Alone(LocalFileSystem(), str(folder))
    ended = Loop(hyper, pupil, Lines([], held), EpochPrinter(), place).run()
    if ended.how != "done":
        raise RedpencilError(f"the pupil {ended.how}: {ended.why}")
    restore(pupil, load(folder / BEST))


def save(pupil: Pupil, path: Path) -> None:
    """The weights in half precision, and the alphabet."""
    state = {
        n: v.cpu().numpy().astype(np.float16) for n, v in pupil.state_dict().items() if v.is_floating_point()
    }
    np.savez_compressed(path, alphabet=np.array("".join(pupil.alphabet)), **state)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.distil", description=__doc__)
    parser.add_argument("lessons", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("out/distil"), help="checkpoints, to go on from")
    parser.add_argument("--steps", type=int, default=HYPER.steps)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    priority.yield_to_others()
    torch.set_num_threads(args.threads)
    torch.manual_seed(HYPER.seed)
    packs = [opened(path) for path in args.lessons]
    if len({alphabet for alphabet, _ in packs}) > 1:
        raise SystemExit("the packs are spelled with different characters")
    pupil = Pupil(packs[0][0], [lesson for _, some in packs for lesson in some])
    learn(pupil, replace(HYPER, steps=args.steps), args.folder.absolute())
    save(pupil, args.out)


if __name__ == "__main__":
    main()
