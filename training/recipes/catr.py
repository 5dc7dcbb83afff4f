"""CATR: a ResNet, a transformer encoder over its cells, and a transformer decoder that writes captions.

After https://github.com/saahiluppal/catr and DETR (Carion et al. 2020): hidden size 256, 3 encoder and
6 decoder layers, 2-D sine positions, WordPiece tokens. Unlike the original the loss leaves padding
out, and the image is looked at once, not again for every word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from tokenizers import Tokenizer
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from redpencil.bundle import Generation, Manifest
from redpencil.errors import BadInput
from redpencil.pixels import Preprocessing
from redpencil.types import Precision, Task
from training import tokens
from training.augment import photo
from training.hyper import Hyper
from training.image_to_text import ImageToText, Named, visible
from training.recipe import Recipe
from training.transformer import DecoderLayer, EncoderLayer, embedded, pair, shapes
from training.weights import load_parts

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights want


@dataclass(frozen=True)
class CatrHyper(Hyper):
    """Sizes and choices; a run that goes on from a catr version keeps that one's, but those of OF_A_RUN."""

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = "resnet50"
    backbone_weights: str = ""  # a file of torchvision weights; empty: from scratch
    backbone_lr: float = 1e-5  # 0: the backbone stays as it is; from scratch it learns like the rest
    side: int = 256  # pixels of the square that an image becomes
    hidden: int = 256
    heads: int = 8
    inner: int = 2048
    encoder_layers: int = 3
    decoder_layers: int = 6
    dropout: float = 0.1
    vocabulary: int = 10_000  # at most so many WordPiece tokens, learned from the captions
    longest: int = 128  # tokens of a caption
    beams: int = 3
    length_penalty: float = 1.0  # of beams: above 1 longer captions win, below shorter ones
    upright: bool = True  # False: the images have no up and down, as from the air


class Catr(ImageToText):
    """Everything learns (the backbone at its own rate), so images are their own features."""

    def __init__(self, tokenizer: Tokenizer, hyper: CatrHyper, frozen_norm: bool) -> None:
        super().__init__()
        check(hyper)
        self.tokenizer, self.alphabet = tokenizer, tokens.fingerprint(tokenizer)
        self.shape = {k: v for k, v in asdict(hyper).items() if k in OWN} | {"frozen_norm": frozen_norm}
        self.preprocessing = Preprocessing(hyper.side, "rgb", MEAN, STD, width=hyper.side)
        start, end = tokens.ends(tokenizer)
        self.generation = Generation((start,), end, hyper.longest, hyper.beams, hyper.length_penalty)
        self.past_shapes = shapes(hyper.decoder_layers, hyper.heads, hyper.hidden // hyper.heads)
        self.augment = partial(photo, upright=hyper.upright)
        self.compared = f"{hyper.decoder_layers - 1}.value"
        norm = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        net = getattr(torchvision.models, hyper.backbone)(norm_layer=norm)
        self.backbone = nn.Sequential(*list(net.children())[:-2])
        self.backbone.requires_grad_(not frozen_norm or hyper.backbone_lr > 0)
        self.narrow = nn.Conv2d(net.fc.in_features, hyper.hidden, 1)
        size = (hyper.hidden, hyper.heads, hyper.inner, hyper.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*size) for _ in range(hyper.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*size) for _ in range(hyper.decoder_layers))
        self.words = nn.Embedding(len(self.alphabet), hyper.hidden)
        self.positions = nn.Embedding(hyper.longest + 1, hyper.hidden)
        self.norm, self.drop = nn.LayerNorm(hyper.hidden), nn.Dropout(hyper.dropout)
        self.head = nn.Sequential(
            nn.Linear(hyper.hidden, 2 * hyper.hidden),
            nn.ReLU(),
            nn.Linear(2 * hyper.hidden, len(self.alphabet)),
        )

    def encode(self, features: Tensor) -> Named:
        """[B,3,side,side] -> keys and values of the cells, for every decoder layer."""
        cells = self.narrow(self.backbone(features))
        place = sine(cells)
        x = cells.flatten(2).transpose(1, 2)
        for layer in self.encoder:
            x = layer(x, place)
        memory: Named = {}
        for i, layer in enumerate(self.decoder):
            assert isinstance(layer, DecoderLayer)  # as all of them are
            key, value = layer.cross.keys(x + place)[0], layer.cross.keys(x)[1]
            memory |= {f"{i}.key": key, f"{i}.value": value}
        return memory

    def decode(self, tokens: Tensor, length: Tensor, memory: Named, past: Named) -> tuple[Tensor, Named]:
        x = self.drop(self.norm(embedded(self.words, tokens, length, self.positions)))
        seen = visible(length, past["0.key"].shape[2], tokens.shape[1])
        new: Named = {}
        for i, layer in enumerate(self.decoder):
            x, (key, value) = layer(x, seen, pair(past, str(i)), pair(memory, str(i)))
            new |= {f"{i}.key": key, f"{i}.value": value}
        return self.head(x), new

    def parameter_groups(self, hyper: Hyper) -> list[dict[str, Any]]:
        assert isinstance(hyper, CatrHyper)
        rate = hyper.backbone_lr if self.shape["frozen_norm"] else hyper.lr
        own = {id(p) for p in self.backbone.parameters()}
        rest = [p for p in self.parameters() if id(p) not in own]
        seen = [p for p in self.backbone.parameters() if p.requires_grad]
        return [{"params": rest, "lr": hyper.lr}, *([{"params": seen, "lr": rate}] if seen else [])]


def check(hyper: CatrHyper) -> None:
    """BadInput where sizes do not go together."""
    if min(hyper.side, hyper.heads, hyper.inner, hyper.decoder_layers) < 1 or hyper.encoder_layers < 0:
        raise BadInput("side, heads, inner and decoder_layers must be at least 1, and encoder_layers 0")
    if hyper.hidden < 1 or hyper.hidden % 4 or hyper.hidden % hyper.heads:
        raise BadInput(
            f"hidden must be a multiple of heads, {hyper.heads}, and of 4 (sines and cosines of row and "
            f"column say where a cell lies), not {hyper.hidden}"
        )
    if not 0 <= hyper.dropout < 1:
        raise BadInput(f"dropout is a share, 0 or more and below 1, not {hyper.dropout}")


def sine(cells: Tensor) -> Tensor:
    """Where each cell of [B,C,H,W] lies, as sines of growing wave lengths: [1,H*W,C], rows in half of C."""
    channels, height, width = cells.shape[1] // 2, cells.shape[2], cells.shape[3]
    powers = torch.arange(channels, device=cells.device) // 2 * 2 / channels
    waves = 10_000**powers

    def along(count: int) -> Tensor:
        share = torch.arange(1, count + 1, device=cells.device) / count * 2 * math.pi
        angle = share[:, None] / waves
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], -1).flatten(1)

    rows = along(height)[:, None].expand(-1, width, -1)
    columns = along(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)[None]


def build(parent: Path | None, texts: Iterable[str], hyper: CatrHyper) -> Catr:
    """A new captioner of `texts`, or that of a catr bundle with its vocabulary grown by them."""
    if parent is None:
        tokenizer = tokens.word_pieces(texts, hyper.vocabulary, lower=True)
        model = Catr(tokenizer, hyper, frozen_norm=bool(hyper.backbone_weights))
        if hyper.backbone_weights:
            load_backbone(model, hyper)
        return model
    manifest = Manifest.load(parent)
    if manifest.lineage.get("recipe") != RECIPE.name:
        raise BadInput("catr goes on from bundles of its own kind alone; leave --param parent out")
    shape = dict(manifest.lineage["shape"])
    frozen = shape.pop("frozen_norm")
    tokenizer = tokens.grown(tokens.of_bundle(parent), texts)
    kept = {name: value for name, value in shape.items() if name not in OF_A_RUN}
    assert manifest.generation is not None  # as Manifest.load has checked
    kept.setdefault("longest", manifest.generation.longest)  # older shapes do not say it
    model = Catr(tokenizer, replace(hyper, **kept), frozen)
    fp32 = manifest.graphs[Precision.FP32], manifest.decoders[Precision.FP32]
    load_parts(model, *(parent / graph.file for graph in fp32))
    return model


def load_backbone(model: Catr, hyper: CatrHyper) -> None:
    """Put torchvision's weights of a whole ResNet into the part of it that is used."""
    path = Path(hyper.backbone_weights).expanduser()
    if not path.is_file():
        raise BadInput(f"there are no backbone weights at {path}; leave backbone_weights empty to start anew")
    net = getattr(torchvision.models, hyper.backbone)(norm_layer=FrozenBatchNorm2d)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")})
    except Exception as error:  # what torch raises for files that are none of its own shares no base
        raise BadInput(f"{path} holds no weights of torchvision's {hyper.backbone}: {error}") from error
    model.backbone.load_state_dict(nn.Sequential(*list(net.children())[:-2]).state_dict())


OF_A_RUN = ("backbone_lr", "dropout", "beams", "length_penalty")
OWN = tuple(f for f in CatrHyper.__dataclass_fields__ if f not in Hyper.__dataclass_fields__)
RECIPE = Recipe(
    name="catr",
    summary="trains a ResNet with a transformer encoder and decoder to write captions",
    defaults=CatrHyper(
        lr=1e-4,
        batch=16,
        steps=0,
        passes=30,
        report_every=0,
        keep_every=5,
        warmup=0.02,
        schedule="plateau",
        decay=0.5,
        decay_every=2,
        clip=0.1,
        patience=3,
        weight_decay=1e-4,
        smoothing=0.0,
        replay=0.0,
        rehearsal=0,
        earlier=4000,
        augment=1.0,
        validation=0.1,
    ),
    build=build,
    starts_from="own",
    rehearses=False,
    mirrors=True,
    keeps=tuple(name for name in OWN if name not in OF_A_RUN),
    task=Task.CAPTION,
)
