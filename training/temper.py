"""How far to go: a point between the parent's weights and the tuned ones that forgets little.

A straight line between a model and its fine-tuned copy holds models that keep most of the new
and lose less of the old (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022). It
costs nothing when serving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from redpencil import linepack
from redpencil.metrics import cer
from training import data
from training.data import Line
from training.frozen import Frozen
from training.recipe import Hyper, LineModel

SHARES = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2)
LINES = 240
ALLOWED = 1.02
"""How much CER of the base domain may grow by, as a ratio, before less of the way is gone."""


def temper(model: LineModel, before: Mapping[str, Tensor], lines: Sequence[Line], most: float = 1.0) -> float:
    """Take a tuned model back towards `before`, to `most` of the way or less: until it reads `lines`
    about as well as that did.

    The lines are of the base domain and were not trained on. Returns the share of the way that is
    kept, one of SHARES; the least of them where none forgets little enough, for the gate to judge.
    """
    after = {name: value.clone() for name, value in model.state_dict().items()}
    kept = {name: value.clone() for name, value in before.items()}
    features = Frozen(model).map(lambda line: line.image, lines)
    move(model, kept, after, 0.0)
    bar = ALLOWED * error(model, lines, features)
    shares = [share for share in SHARES if share <= most] or [most]
    for share in shares:
        move(model, kept, after, share)
        if error(model, lines, features) <= bar:
            return share
    return shares[-1]


def unrehearsed(hyper: Hyper) -> list[Line]:
    """Lines of the rehearsal pack that a run with these parameters does not train on."""
    packed = linepack.load("rehearsal")
    rest = np.random.default_rng(hyper.seed).permutation(len(packed))[hyper.rehearsal :]
    return [Line(packed[i].image, packed[i].text) for i in sorted(rest[:LINES])]


def move(model: LineModel, before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float) -> None:
    """Put the model `share` of the way from one state to another; counters are those of the latter."""
    between = {
        name: torch.lerp(before[name], value, share) if value.is_floating_point() else value
        for name, value in after.items()
    }
    model.load_state_dict(between)
    model.eval()


def error(model: LineModel, lines: Sequence[Line], features: Sequence[Tensor]) -> float:
    """CER on the lines."""
    texts = [reading.text for reading in data.read(model, features)]
    return cer([(line.text, text) for line, text in zip(lines, texts, strict=True)])
