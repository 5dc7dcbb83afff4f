"""What a model family must say. A recipe is one file training/recipes/NAME.py holding `RECIPE`."""

from __future__ import annotations

import importlib
import os
import pkgutil
from abc import abstractmethod
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redpencil.bundle import Manifest
from redpencil.checkpoints import ASKED
from redpencil.errors import BadInput, NotFound
from redpencil.language import Language
from redpencil.types import Task
from training.hyper import Hyper
from training.learner import Learner, Lessons
from training.spoken import told

if TYPE_CHECKING:
    from redpencil.settings import Settings
    from training.crops import Line
    from training.job import Lines

NOT_HYPER = ("parent", "teacher", "doubt", "reach", ASKED)
"""Parameters of a run that are none of its model's."""
OF_WRITING = ("beams", "length_penalty")
ANEW = "none"
"""The `parent` of a run that goes on from no version."""

FOLLOWED = 8
"""Classes per step among which a language may choose."""


class LineModel(Learner):
    """A line recogniser with CTC: class 0 is the blank, class i+1 is alphabet[i].

    `features` is the frozen part and runs once per line; `forward` is what learns. The last axis
    of the features is the line's width. Parameters that are frozen have requires_grad False.
    `language` is of the texts that it has learned, and of words; it decides where a picture leaves a choice.
    """

    language: Language | None = None
    before: Path | None = None
    """The bundle that it goes on from, of which it may have frozen parts."""

    def features(self, images: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,...,V]; no gradient flows here. The identity where nothing is frozen."""
        return images

    @abstractmethod
    def forward(self, features: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[B,...,V] -> logits [B,T,K] and their lengths int64 [B].

        In training the last axis may hold what `loss` needs instead of every class. `widths`
        int64 [B] says how many columns of each line are not padding; None: all. Padding does not
        change what is read in the rest.
        """

    def heard(self, features: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The likeliest classes int64 [B,T,K], best first, their probabilities [B,T,K], which lines are of
        the language's texts, int64 [B] as `own` of a bundle's graph (`LineReader`), and the lengths [B].

        Without a language K is 1.
        """
        logits, lengths = self(features, widths)
        classes, sure = likeliest(logits, FOLLOWED if self.language else 1)
        return classes, sure, torch.ones_like(lengths), lengths

    def begin(self, texts: Iterable[str]) -> None:
        """Called once before training with all texts that will be learned from; may do nothing."""

    def as_printed(self, lines: Sequence[Line]) -> list[Line]:
        """Corrected lines with the texts that are to be learned: theirs, or what is printed where these
        follow a habit that the model learns apart."""
        return list(lines)

    def know(
        self,
        corrected: Sequence[Line],
        rehearsed: Sequence[Line],
        rendered: Sequence[Line] = (),
        before: Container[str] = (),
    ) -> None:
        """Called once after training with the corrected lines, the rehearsed ones, and the primer's.

        Lines that a teacher read are with the corrected ones and have no key. `before` has the keys of
        corrected lines that the parent had learned from. All of them become part of the language, since
        they may be in any line.
        """
        self.language = told(self.language, [*corrected, *rehearsed, *rendered], before)

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        target_lengths: Tensor,
        input_lengths: Tensor,
        smoothing: float,
        rehearsed: Tensor | None = None,
    ) -> Tensor:
        """CTC per character, mixed with `smoothing` parts of a pull to the uniform distribution.

        `targets` int64 [sum of target_lengths]. A line with no possible alignment counts nothing.
        `rehearsed` bool [B] says which lines are rehearsal, for models that treat these apart.
        """
        logp = logits.float().log_softmax(-1)
        ctc = F.ctc_loss(logp.transpose(0, 1), targets, input_lengths, target_lengths, zero_infinity=True)
        if not smoothing:
            return ctc
        valid = torch.arange(logp.shape[1], device=logp.device) < input_lengths[:, None]
        return (1 - smoothing) * ctc - smoothing * logp.mean(-1)[valid].mean()

    def lessons(self, lines: Lines, hyper: Hyper, rank: int = 0, world: int = 1) -> Lessons:
        """Corrected and rehearsed lines in batches of nearly equal width."""
        from training.line_lessons import LineLessons

        return LineLessons(self, lines, hyper, rank, world)

    def to_bundle(self, folder: Path, lines: Sequence[Line], lineage: dict[str, Any]) -> Manifest:
        from training import export

        return export.to_bundle(self, folder, lines, lineage)

    def export_module(self) -> nn.Module:
        """image [B,C,H,W] -> indices, probabilities, and maybe own: a bundle's graph, see `LineReader`."""
        return Exported(self).eval()


class Exported(nn.Module):
    """Features, forward, and the likeliest classes of each step. Weights keep the name model.NAME."""

    def __init__(self, model: LineModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        classes, sure, *_ = self.model.heard(self.model.features(image))
        return steps(classes, sure)


def likeliest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best classes of each step and their probabilities; among thousands TopK is quicker than ArgMax."""
    best = logits.float().softmax(-1).topk(min(count, logits.shape[-1]))
    return best.indices, best.values


def steps(classes: Tensor, sure: Tensor) -> tuple[Tensor, Tensor]:
    """What a graph answers: [B,T] where nobody asks for more than the best class, else [B,T,K]."""
    return (classes, sure) if classes.shape[-1] > 1 else (classes[..., 0], sure[..., 0])


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model family.

    `build(parent, texts, hyper)` gives a model that can spell every one of `texts`. `parent` is the
    folder of the bundle to go on from; None starts anew (ppocr: from the base model). The
    parent's alphabet is kept and only ever grows at its end. `hyper` is of the defaults' class.
    A run goes on from the champion, always anew, or ("own") from a champion of the same family and
    else anew; its parameter `parent` names another version, or ANEW. `task` is what the family is
    made for; it can be trained for others, but not for text where it `mirrors` images. What `rehearses` is
    a LineModel, and can be held back. `keeps` are hyper-parameters that a version has for good, in the
    `shape` of its lineage; `inherits` are others there, which a run takes over unless it asks for something
    else.
    """

    name: str
    summary: str
    defaults: Hyper
    build: Callable[[Path | None, Iterable[str], Any], Learner]
    starts_from: Literal["champion", "own", "scratch"]
    task: Task = Task.OCR
    rehearses: bool = True
    keeps: tuple[str, ...] = ()
    inherits: tuple[str, ...] = ()
    mirrors: bool = False

    def hyper(self, params: Mapping[str, Any], parent: Manifest | None, checked: bool = False) -> Hyper:
        """The hyper-parameters of a run with such `params` that goes on from a bundle.

        What a version keeps stays as it is, and so does how it writes (OF_WRITING) unless that is asked for.
        """
        asked = {name: value for name, value in params.items() if name not in NOT_HYPER}
        made = self.defaults.updated(asked, checked)
        kept = self._kept(parent)
        if kept and parent and parent.generation:
            own = [name for name in OF_WRITING if hasattr(made, name) and name not in asked]
            kept |= {name: getattr(parent.generation, name) for name in own}
        if kept and parent:
            kept |= self._said(parent, [name for name in self.inherits if name not in asked])
        return replace(made, **kept)

    def refuse(self, params: Mapping[str, Any], parent: Manifest | None) -> None:
        """BadInput where a run asks for something else than what the version that it goes on from keeps."""
        asked = self.hyper(params, None)
        for name, value in self._kept(parent).items():
            if name in params and getattr(asked, name) != value:
                raise BadInput(
                    f"training parameter {name} is {value!r} in the version that the run goes on from, not "
                    f"{getattr(asked, name)!r}: leave it out, or begin anew with --param parent={ANEW}"
                )

    def _kept(self, parent: Manifest | None) -> dict[str, Any]:
        if parent is None or parent.lineage.get("recipe") != self.name:
            return {}
        return self._said(parent, self.keeps)

    def _said(self, parent: Manifest, names: Iterable[str]) -> dict[str, Any]:
        """What a version's shape says of these; older ones may say something else by such a name."""
        shape, kinds = parent.lineage.get("shape", {}), {n: type(getattr(self.defaults, n)) for n in names}
        return {name: shape[name] for name, kind in kinds.items() if isinstance(shape.get(name), kind)}

    def check(self, hyper: Hyper, reach: float, task: Task | None = None) -> None:
        """BadInput where a run asks for what the family does not do."""
        if self.mirrors and task is Task.OCR:
            raise BadInput(
                f"{self.name} learns from images that are mirrored too, which no text is: train it for "
                "captions (--model caption), or take another family for text, such as vit_gated"
            )
        of_lines = ("replay", "unlabelled", "primer", "channel_dropout")
        asked: dict[str, Any] = {name: getattr(hyper, name) for name in of_lines}
        asked = {name: value for name, value in asked.items() if value}
        if reach < 1:
            asked["reach"] = reach
        if asked and not self.rehearses:
            name, value = asked.popitem()
            raise BadInput(
                f"training parameter {name}={value} is for families that read lines by CTC; {self.name} "
                "learns from corrections alone, all the way: leave it out"
            )


def model_of(chosen: Recipe, settings: Settings, asked: str | None = None) -> str:
    """The registered model that a family is for, or the one asked for; BadInput for one that is not here."""
    model = asked or (settings.model if chosen.task is Task.OCR else settings.caption_model)
    if model not in settings.models:
        raise BadInput(f"there is no model {model!r} here; there are {', '.join(settings.models)}")
    return model


def given(params: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE of a command line; BadInput for anything else."""
    if wrong := [p for p in params if "=" not in p]:
        raise BadInput(f"parameters are NAME=VALUE, not {wrong[0]!r}")
    return dict(p.split("=", 1) for p in params)


def names() -> list[str]:
    """The recipes there are: Redpencil's, and your own in the folders that REDPENCIL_RECIPES lists."""
    from training import recipes

    own = [f for f in os.environ.get("REDPENCIL_RECIPES", "").split(os.pathsep) if f]
    recipes.__path__.extend(f for f in own if f not in recipes.__path__)
    return sorted(m.name for m in pkgutil.iter_modules(recipes.__path__))


def find(name: str) -> Recipe:
    """The recipe of that name; NotFound lists the ones there are."""
    if name not in names():
        raise NotFound(f"no recipe {name!r}; there are {', '.join(names())}")
    recipe: Recipe = importlib.import_module(f"training.recipes.{name}").RECIPE
    return recipe
