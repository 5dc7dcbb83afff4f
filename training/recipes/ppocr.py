"""PP-OCRv6 (small) line recogniser: a frozen convolutional backbone, a neck and a head that learn.

Apache-2.0, from the rapidocr package. The backbone's features are computed once per line.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redpencil import vocab
from redpencil.bundle import Manifest
from redpencil.errors import Damaged
from redpencil.pixels import Preprocessing
from redpencil.types import Precision
from training.recipe import Hyper, LineModel, Recipe
from training.svtr import BLOCKS, WIDTH, Block, Dense, Neck, Stem
from training.weights import layers_in_order, load_by_name

LOOKALIKES = 2  # classes per wanted one that training pushes down beside it
STAY = 0.1  # price of moving what the neck says of rehearsed lines, per squared unit


class PPOCR(LineModel):
    """The recogniser; stem and blocks are frozen."""

    preprocessing = Preprocessing(height=48, channels="bgr", mean=(0.5,) * 3, std=(0.5,) * 3)
    by_line = True

    def __init__(self, alphabet: tuple[str, ...]) -> None:
        super().__init__()
        self.alphabet = alphabet
        self.stem = Stem()
        self.blocks = nn.Sequential(*(Block(*shape) for shape in BLOCKS))
        self.neck = Neck()
        self.head = Dense(WIDTH, len(alphabet) + 1)
        self.focus: Tensor | None = None  # sorted classes that training looks at
        self.start: list[Neck] = []  # the neck before training; in a list, so that it is no part
        for frozen in (self.stem, self.blocks):
            frozen.requires_grad_(False)

    def begin(self, texts: Iterable[str]) -> None:
        """Train on the classes of these texts and on those most easily taken for them.

        All 18,710 classes would make a step ten times as dear.
        """
        wanted = sorted({0, *chain.from_iterable(vocab.encode(t, self.alphabet) for t in texts)})
        rows = F.normalize(self.head.weight.detach(), dim=0)
        alike = (rows[:, wanted].T @ rows).topk(min(LOOKALIKES, rows.shape[1]), -1).indices
        self.focus = torch.cat([torch.tensor(wanted), alike.flatten().cpu()]).unique().to(rows.device)
        self.start = [copy.deepcopy(self.neck).requires_grad_(False)]

    def features(self, images: Tensor) -> Tensor:
        """[B,3,48,W] -> [B,384,1,W/8]."""
        with torch.no_grad():
            return F.avg_pool2d(self.blocks(self.stem(images)), (3, 2))

    def forward(self, features: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """In training: the logits of the focus, and behind them how far the neck has moved."""
        size, steps = features.shape[0], features.shape[-1]
        valid = None
        if widths is None:
            widths = torch.full((size,), steps)
        else:
            valid = torch.arange(steps, device=features.device) < widths[:, None]
        read = self.neck(features, valid)
        if self.focus is None or not self.training:
            return self.head(read), widths
        moved = read - self.start[0](features, valid)
        return torch.cat([self.head(read, self.focus), moved], -1), widths

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        target_lengths: Tensor,
        input_lengths: Tensor,
        smoothing: float,
        rehearsed: Tensor | None = None,
    ) -> Tensor:
        """CTC, and in training a price on moving the neck's answers to rehearsed lines.

        Rehearsed lines are soon read without a fault, and would then hold nothing in place; the
        price also protects the characters that no rehearsed line shows.
        """
        if self.focus is None or logits.shape[-1] != len(self.focus) + WIDTH:
            return super().loss(logits, targets, target_lengths, input_lengths, smoothing)
        logits, moved = logits.split([len(self.focus), WIDTH], -1)
        targets = torch.searchsorted(self.focus, targets)
        ctc = super().loss(logits, targets, target_lengths, input_lengths, smoothing)
        if rehearsed is None or not rehearsed.any():
            return ctc
        inside = torch.arange(moved.shape[1], device=moved.device) < input_lengths[:, None]
        return ctc + STAY * moved[inside & rehearsed[:, None]].float().square().mean()


def base_file() -> Path:
    """The recogniser's graph in the installed rapidocr package."""
    import rapidocr

    return Path(rapidocr.__file__).parent / "models" / "PP-OCRv6_rec_small.onnx"


def base_alphabet(graph: onnx.ModelProto) -> tuple[str, ...]:
    """The characters in class order; RapidOCR and so we append the space, which the list lacks."""
    listed = next(p.value for p in graph.metadata_props if p.key == "character")
    return (*listed.split("\n"), " ")


def build(parent: Path | None, texts: Iterable[str], hyper: Hyper | None = None) -> PPOCR:
    """The base recogniser (parent None) or the one in a bundle, able to spell `texts`."""
    if parent is None:
        return grown(from_paddle(base_file()), texts)
    manifest = Manifest.load(parent)
    model = PPOCR(manifest.alphabet)
    load_by_name(model, parent / manifest.graphs[Precision.FP32].file)
    return grown(model, texts)


def grown(model: PPOCR, texts: Iterable[str]) -> PPOCR:
    """The same reader with head rows for characters that it lacks, which never fire untrained."""
    alphabet = vocab.grow(model.alphabet, texts)
    if new := len(alphabet) - len(model.alphabet):
        weight, bias = model.head.weight.data, model.head.bias.data
        model.head = Dense(WIDTH, len(alphabet) + 1)
        noise = torch.randn(WIDTH, new, generator=torch.Generator().manual_seed(0)) * 0.02
        model.head.weight.data = torch.cat([weight, noise], 1)
        model.head.bias.data = torch.cat([bias, bias.min().expand(new)])
        model.alphabet = alphabet
    return model


def from_paddle(path: Path) -> PPOCR:
    """The recogniser of a PP-OCRv6 graph; Damaged when torch and ONNX Runtime disagree."""
    graph = onnx.load(path)
    model = PPOCR(base_alphabet(graph)).eval()
    layers = [array for layer in layers_in_order(graph.graph) for array in layer]
    state = model.state_dict()
    if [a.size for a in layers] != [p.numel() for p in state.values()]:
        raise Damaged(f"{path.name} is not the PP-OCRv6 graph that this recipe knows")
    named = zip(state.items(), layers, strict=True)
    model.load_state_dict({n: torch.from_numpy(a.copy()).reshape(p.shape) for (n, p), a in named})
    _agree(model, path)
    return model


def _agree(model: PPOCR, path: Path) -> None:
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 48, 168)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {session.get_inputs()[0].name: image})
    with torch.no_grad():
        logits, _ = model(model.features(torch.from_numpy(image)))
    apart = float(np.abs(logits.softmax(-1).numpy() - wanted).max())
    if not apart < 1e-4:
        raise Damaged(f"torch and ONNX Runtime differ by {apart:.1e} in probability on {path.name}")


RECIPE = Recipe(
    name="ppocr",
    summary="fine-tunes the neck and head of the PP-OCRv6 line recogniser on corrections",
    defaults=Hyper(),
    build=build,
    starts_from="champion",
)
