"""How a run learns: its parameters, what they may be, and how many steps they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from typing import Any, Literal, get_args, get_origin, get_type_hints

from redpencil.errors import BadInput

YES_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

COUNTS: tuple[str, ...]
COUNTS = ("lr", "steps", "passes", "many_passes", "report_every", "clip", "patience", "copies", "augment")
COUNTS += ("weight_decay", "rehearsal", "unlabelled", "primer", "earlier", "decay", "decay_every", "seed")
COUNTS += ("loaders", "keep_every", "length_penalty", "unfreeze", "lora_r", "lora_alpha", "language_lr")
COUNTS += ("vision_share", "factor", "backbone_lr")
SIZES: tuple[str, ...]
SIZES = ("batch", "accumulate", "beams", "longest", "prefix", "inner", "rank", "alpha", "height", "width")
SIZES += ("vision_width", "vision_layers", "vision_inner", "hidden", "layers", "vocabulary")
RANGES = (
    *(
        (name, 0, 1, "a share, 0 or more and below 1")
        for name in ("replay", "warmup", "smoothing", "validation", "dropout", "channel_dropout")
    ),
    *((name, 1, inf, "at least 1") for name in SIZES),
    *((name, 0, inf, "0 or more") for name in COUNTS),
)
"""Names, the least, what they stay below, and both in words."""

USUAL_STEPS = (100, 400)
"""Where few lines take few steps: more passes teach nothing more (docs/log.md, 2026-11-28)."""

FEW_NEW = 0.1
"""Of each batch new lines at least, however many a teacher has read."""


@dataclass(frozen=True)
class Hyper:
    """How a run learns; a recipe gives defaults, `params` of a run override single fields.

    A family with choices of its own (sizes, what is frozen) adds them as fields of a subclass.
    """

    lr: float = 1e-3
    batch: int = 16
    schedule: Literal["cosine", "step", "plateau"] = "cosine"  # after the warm-up
    decay: float = 0.1  # of the rate, at each step down of "step" and "plateau"
    decay_every: int = 0  # epochs from one step down to the next; on a plateau: that it has lasted
    steps: int = 400  # optimiser steps, at least
    passes: float = 4.0  # and at least so many passes over the corrected lines
    many_passes: float = 0.0  # with steps=0: so many passes over the lines, within USUAL_STEPS
    report_every: int = 50  # steps per epoch: validation, checkpoint, patience; 0: one pass over the lines
    keep_every: int = 0  # of every so many-th epoch a checkpoint outlives the run; 0: none does
    warmup: float = 0.05  # share of the steps
    clip: float = 1.0  # norm of the gradient
    accumulate: int = 1  # batches per optimiser step
    patience: int = 4  # epochs without a better validation CER; 0: never stop early
    smoothing: float = 0.0  # label smoothing, 0..1
    weight_decay: float = 0.0
    precision: Literal["bf16", "fp32"] = "fp32"
    replay: float = 0.5  # share of every batch that is rehearsal of the base domain
    rehearsal: int = 400  # different rehearsal lines to draw from
    rehearsed: Literal["all", "latin"] = "all"  # which of the pack's: all, or those in Latin letters
    unlabelled: int = 0  # lines that nobody corrected, rehearsed as the champion reads them, at most
    primer: int = 0  # lines of a script that corrections bring: rendered and corrected ones together
    earlier: int = 400  # corrections known to the parent that are met again, or as many as are new
    copies: int = 3  # versions of each corrected line: the line itself and augmented ones
    augment: float = 1.0  # strength of the augmentation; 0: none
    channel_dropout: float = 0.0  # share of a corrected line's kept features that each look at it misses
    loaders: int = 0  # threads that prepare batches ahead, for GPUs; no number changes what is learned
    validation: float = 0.1  # share of train groups that only validate
    seed: int = 0

    def updated(self, params: Mapping[str, Any], checked: bool = True) -> Hyper:
        """These with single fields replaced; an unknown field or a wrong type is refused.

        What is on record was checked by the rules of its time: it is not `checked` again.
        """
        known = {f.name: float if f.type == "float" else type(getattr(self, f.name)) for f in fields(self)}
        if unknown := sorted(set(params) - set(known)):
            raise BadInput(f"unknown training parameter {unknown[0]!r}; known are {', '.join(sorted(known))}")
        made = replace(self, **{k: _as(known[k], k, v) for k, v in params.items()})
        if checked:
            made.check()
        return made

    def check(self) -> None:
        """BadInput where a choice is none of those there are, or a number makes no sense."""
        for name, kind in get_type_hints(type(self)).items():
            chosen, choices = getattr(self, name), get_args(kind)
            if get_origin(kind) is Literal and chosen not in choices:
                raise BadInput(f"training parameter {name} is one of {', '.join(choices)}, not {chosen!r}")
        for name, least, most, words in RANGES:
            if hasattr(self, name) and not least <= getattr(self, name) < most:
                raise BadInput(f"training parameter {name} is {words}, not {getattr(self, name)}")
        if self.unlabelled and not self.replay:
            raise BadInput("training parameter unlabelled needs replay above 0: such lines are rehearsed")
        if self.channel_dropout and not self.copies:
            raise BadInput("training parameter channel_dropout is for kept features: set copies above 0")
        if not (self.steps or self.passes or self.many_passes):
            raise BadInput("a run without steps learns nothing: set steps, passes or many_passes")

    def beside(self, new: int, read: int) -> Hyper:
        """These for a run with so many new lines and so many that a teacher read.

        The more were read, the more of each batch is rehearsed, until FEW_NEW of it are new lines: few
        would else be met a thousand times.
        """
        share = 1 - new / (new + read) if read else 0.0
        return replace(self, replay=max(self.replay, min(share, 1 - FEW_NEW)))

    def in_new_script(self) -> Hyper:
        """These for lines in a script that the reader has hardly met: letters are to be learned soon, and
        there is less to learn by heart."""
        return replace(self, lr=2 * self.lr, channel_dropout=self.channel_dropout / 2)

    def total_steps(self, lines: int, read: int = 0) -> int:
        """Optimiser steps of a run that meets so many lines in a pass, and so many that nobody corrected."""
        few, many = USUAL_STEPS
        a_pass, least = self.pass_steps(lines), self.steps
        if self.many_passes and not least:
            least = min(many, max(few, round(self.many_passes * a_pass)))
        rehearsals = read / (self.batch * self.accumulate * self.replay) if read else 0.0
        return max(1, least, round(self.passes * max(a_pass, rehearsals)))

    def pass_steps(self, lines: int) -> float:
        """Optimiser steps in which every corrected line is met once."""
        return lines / max(1.0, self.batch * self.accumulate * (1 - self.replay))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def yes_or_no(name: str, value: Any) -> bool:
    """A run's parameter that is one or the other; BadInput for anything else."""
    return bool(_as(bool, name, value))


def _as(kind: type, name: str, value: Any) -> Any:
    try:
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError("it has a fraction")
        return YES_NO[str(value).lower()] if kind is bool else kind(value)
    except (TypeError, ValueError, KeyError) as error:
        raise BadInput(f"training parameter {name} must be {kind.__name__}, not {value!r}") from error
