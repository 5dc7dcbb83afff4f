"""PP-OCRv6 (small) line recogniser, and beside it a second neck and head that learn from corrections.

The recogniser stays as it is. What was learned reads the lines that are like corrected ones
(training/familiar.py), so it costs the others little. Apache-2.0, from the rapidocr package. The
frozen part's features are computed once per line.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redpencil import vocab
from redpencil.bundle import Manifest
from redpencil.decode import ctc_greedy
from redpencil.errors import Damaged
from redpencil.language import Language
from redpencil.pixels import Preprocessing
from redpencil.types import Precision
from training import capitals, common_words
from training.familiar import FAR, Familiar
from training.frozen import Frozen
from training.hyper import Hyper
from training.recipe import LineModel, Recipe
from training.spoken import told
from training.svtr import BLOCKS, WIDTH, Block, Dense, Neck, Stem
from training.taught import NEVER, Joined, Taught, apart, more
from training.weights import Floats, constants, fill, layers_in_order

if TYPE_CHECKING:
    from training.crops import Line

STAY = 0.1  # price of moving what the neck says of rehearsed lines, per squared unit


class PPOCR(LineModel):
    """The recogniser, and what it was taught, if anything; only this learns.

    While `everywhere` is set, as it is in training, what was taught reads every line. `alone` says that it
    will do so for good, since nothing is rehearsed: then nothing but the texts is learned.
    """

    preprocessing = Preprocessing(height=48, channels="bgr", mean=(0.5,) * 3, std=(0.5,) * 3)
    by_line = True

    def __init__(self, alphabet: tuple[str, ...]) -> None:
        super().__init__()
        self.alphabet = alphabet
        self.stem = Stem()
        self.blocks = nn.Sequential(*(Block(*shape) for shape in BLOCKS))
        self.neck = Neck()
        self.head = Dense(WIDTH, len(alphabet) + 1)
        self.requires_grad_(False)
        self.taught: Taught | None = None
        self.familiar: Familiar | None = None
        self.everywhere = self.alone = False
        self.start: list[Neck] = []  # the neck before training; in a list, so that it is no part

    def begin(self, texts: Iterable[str]) -> None:
        """From now on what is taught reads every line; how far its neck moves is seen from here."""
        wanted = {0, *chain.from_iterable(vocab.encode(text, self.alphabet) for text in texts)}
        if self.taught is None or not wanted <= set(self.taught.classes.tolist()):
            raise ValueError("a model learns only texts that it was built with")
        self.everywhere = True
        self.start = [copy.deepcopy(self.taught.neck).requires_grad_(False)]

    def know(
        self,
        corrected: Sequence[Line],
        rehearsed: Sequence[Line],
        rendered: Sequence[Line] = (),
        before: Container[str] = (),
    ) -> None:
        """What was taught reads lines like these; every line, if nothing was rehearsed."""
        texts = told(self.language, [*corrected, *rendered], before)
        own_words = common_words.of_met(common_words.met(line.text for line in corrected), self.alphabet)
        self.language = Language(texts.pieces, common_words.spelled(self.alphabet), own_words)
        self.everywhere = not rehearsed and self.familiar is None
        if not self.everywhere:
            frozen = Frozen(self)
            if self.familiar is None:
                self.familiar = Familiar.of(frozen.map(lambda line: line.image, rehearsed))
            features = frozen.map(lambda line: line.image, corrected)
            self.familiar = self._with(self.familiar, corrected, features)
            if rendered:
                shown = frozen.map(lambda line: line.image, rendered)
                self.familiar = self.familiar.with_examples(shown, rendered=True)

    def _with(self, familiar: Familiar, corrected: Sequence[Line], features: Sequence[Tensor]) -> Familiar:
        """What is familiar with these lines as well; what is read right untaught asks for no teaching."""
        read, texts = [self.untaught(of_line) for of_line in features], [line.text for line in corrected]
        printed = capitals.all_as_printed(texts, read)
        known = [a == b for a, b in zip(printed, read, strict=True)]
        habits = [capitals.habit(*pair) for pair in zip(texts, printed, strict=True)]
        return familiar.with_examples(features, known=known, habits=habits)

    def as_printed(self, lines: Sequence[Line]) -> list[Line]:
        """See `LineModel`; what is printed small and written in capitals is told by the untaught reader."""
        written = [line for line in lines if line.text.isupper()]
        if not written or self.alone:
            return list(lines)
        readings = [self.untaught(of_line) for of_line in Frozen(self).map(lambda line: line.image, written)]
        printed = iter(capitals.all_as_printed([line.text for line in written], readings))
        return [replace(line, text=next(printed)) if line.text.isupper() else line for line in lines]

    @torch.inference_mode()
    def untaught(self, features: Tensor) -> str:
        """What the recogniser that never changes reads in one line [C,1,V]."""
        of_line = features[None].float().to(self.head.bias.device)
        best = self.head(self.neck(of_line, None))[0].softmax(-1).max(-1)
        return ctc_greedy(best.indices.cpu().numpy(), best.values.cpu().numpy(), self.alphabet).text.strip()

    def features(self, images: Tensor) -> Tensor:
        """[B,3,48,W] -> [B,384,1,W/8]."""
        with torch.no_grad():
            return F.avg_pool2d(self.blocks(self.stem(images)), (3, 2))

    def forward(self, features: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """In training: the logits of the taught classes, and behind them how far the neck has moved."""
        inside = valid(features, widths)
        if widths is None:
            widths = torch.full((features.shape[0],), features.shape[-1])
        if self.taught is None:
            return self.head(self.neck(features, inside)), widths
        if self.training:
            read = self.taught.neck(features, inside)
            return torch.cat([self.taught.head(read), read - self.start[0](features, inside)], -1), widths
        read, like = self.read(self.taught, features, inside)
        logits, classes = self.head(read), self.taught.classes
        own = torch.where((like > 0)[:, None, None], self.taught.head(read), logits[..., classes])
        return logits.scatter(-1, classes.expand(own.shape), own), widths

    def heard(self, features: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        classes, sure, _, lengths = super().heard(features, widths)
        return classes, sure, self.like(features, valid(features, widths)), lengths

    def read(self, taught: Taught, features: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What a neck says, [B,T,WIDTH], and of which lines the taught one: see `like`."""
        like = self.like(features, valid)
        taught_one = (like > 0)[:, None, None]
        return torch.where(taught_one, taught.neck(features, valid), self.neck(features, valid)), like

    def like(self, features: Tensor, valid: Tensor | None = None) -> Tensor:
        """Which lines are read by what was taught, and which of them in capitals, as `own` of a graph."""
        if self.familiar is None or self.everywhere:
            return torch.ones_like(features[:, 0, 0, 0], dtype=torch.long)
        alike: Tensor = self.familiar(features, valid)
        return alike

    def export_module(self) -> nn.Module:
        return Joined(self, self.taught).eval() if self.taught else super().export_module()

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
        if self.taught is None or logits.shape[-1] != len(self.taught.classes) + WIDTH:
            return super().loss(logits, targets, target_lengths, input_lengths, smoothing)
        logits, moved = logits.split([len(self.taught.classes), WIDTH], -1)
        targets = torch.searchsorted(self.taught.classes, targets)
        ctc = super().loss(logits, targets, target_lengths, input_lengths, smoothing)
        if rehearsed is None or not rehearsed.any():
            return ctc
        inside = torch.arange(moved.shape[1], device=moved.device) < input_lengths[:, None]
        price: Tensor = STAY * moved[inside & rehearsed[:, None]].float().square().mean()
        return ctc + price


def valid(features: Tensor, widths: Tensor | None) -> Tensor | None:
    """Which columns of features [B,...,V] are not padding, bool [B,V]; None: all."""
    return (
        None if widths is None else torch.arange(features.shape[-1], device=features.device) < widths[:, None]
    )


def base_file() -> Path:
    """The recogniser's graph in the installed rapidocr package."""
    import rapidocr

    return Path(rapidocr.__file__).parent / "models" / "PP-OCRv6_rec_small.onnx"


def base_alphabet(graph: onnx.ModelProto) -> tuple[str, ...]:
    """The characters in class order; RapidOCR and so we append the space, which the list lacks."""
    listed = next(p.value for p in graph.metadata_props if p.key == "character")
    return (*listed.split("\n"), " ")


def build(parent: Path | None, texts: Iterable[str], hyper: Hyper | None = None) -> PPOCR:
    """The base recogniser (parent None) or the one in a bundle, able to learn `texts`."""
    model = from_paddle(base_file()) if parent is None else from_bundle(parent)
    model.alone = hyper is not None and not hyper.replay and model.familiar is None
    return grown(model, texts)


def from_bundle(parent: Path) -> PPOCR:
    """The reader in a bundle, as far as it was taught."""
    manifest = Manifest.load(parent)
    path = parent / manifest.graphs[Precision.FP32].file
    model = PPOCR(manifest.alphabet)
    stored = apart(constants(path), len(model.head.bias))
    if "taught.classes" in stored:
        model.taught = Taught(torch.tensor(stored["taught.classes"]))
    if "familiar.bars" in stored:
        model.familiar = Familiar(*_of_familiar(stored))
    model.language, model.before = Language.of_bundle(parent, manifest), parent
    fill(model, stored, path.name)
    return model


def grown(model: PPOCR, texts: Iterable[str]) -> PPOCR:
    """The same reader, with something to teach the characters of the texts and those easily taken for them.

    All 18,710 classes would make a step ten times as dear. What is taught starts as what reads now.
    """
    texts = list(texts)
    if not texts:
        return model
    known = set(model.alphabet)
    texts += ["".join(known.intersection(text.lower())) for text in texts if text.isupper()]
    alphabet = vocab.grow(model.alphabet, texts)
    new = len(alphabet) - len(model.alphabet)
    weight, bias = model.head.weight.data, model.head.bias.data
    noise = torch.randn(WIDTH, new, generator=torch.Generator().manual_seed(0)) * 0.02
    wanted = sorted({0, *chain.from_iterable(vocab.encode(text, alphabet) for text in texts)})
    model.alphabet, model.head = alphabet, Dense(WIDTH, len(alphabet) + 1).requires_grad_(False)
    model.head.weight.data = torch.cat([weight, torch.zeros(WIDTH, new)], 1)
    model.head.bias.data = torch.cat([bias, torch.full((new,), NEVER)])
    least = bias[bias > NEVER].min()  # not that of characters that came with earlier corrections
    start = torch.cat([weight, noise], 1), torch.cat([bias, least.expand(new)])
    model.taught = more(model.taught, model.neck, wanted, *start)
    return model


def _of_familiar(stored: Mapping[str, Floats]) -> Iterator[Tensor]:
    """The parts of `Familiar`; graphs of a time before capitals were told apart say nothing of these."""
    for name in ("middle", "whiten", "examples", "bars"):
        yield torch.tensor(stored[f"familiar.{name}"])
    for name in ("capitals", "small"):
        none = np.full_like(stored["familiar.bars"], FAR)
        yield torch.tensor(stored.get(f"familiar.{name}", none))


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
    model.language = Language({}, common_words.spelled(model.alphabet))
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
    defaults=Hyper(primer=150, steps=0, many_passes=50, channel_dropout=0.5),
    build=build,
    starts_from="champion",
)
