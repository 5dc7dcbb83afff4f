"""ViT-gated: a vision transformer, and a text decoder that looks at the image in some layers, through a gate.

The encoder is torchvision's ViT (Dosovitskiy et al. 2020). Only every k-th layer of the decoder attends
to the image, as in Flamingo (Alayrac et al. 2022); what it finds comes in through a sigmoid gate that is
computed from both sides, as in gated multimodal units (Arevalo et al. 2017). The height of the learning
rate goes by the decoder's width as in Vaswani et al. 2017. For captions, blocks and lines of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from redpencil.bundle import Generation, Manifest
from redpencil.errors import BadInput
from redpencil.generate import generate
from redpencil.pixels import Pixels, Preprocessing, to_tensor
from redpencil.types import Precision, Task
from training import tokens
from training.attention_map import drawn
from training.augment import another_scan, augment, photo
from training.hyper import Hyper
from training.image_to_text import ImageToText, Named, split_heads, visible
from training.recipe import Recipe
from training.torch_decoder import MEMORY, TorchDecoder
from training.transformer import Attention, FeedForward, embedded, joined, pair, shapes
from training.vit import Grid, load_vision, regridded, vision
from training.weights import load_parts
from training.words import compounds, segmenter

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights want
LINE_PX = 80  # an image as the model takes it is one line of text where it is no higher
SHOWN = 15  # tokens whose attention a picture shows

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class VitGatedHyper(Hyper):
    """Sizes and choices; a run that goes on from a version keeps its sizes, tokens and weights."""

    height: int = 384  # pixels that an image becomes; for single lines of text e.g. 64 x 1024
    width: int = 384
    fit: Literal["pad", "stretch", "crop"] = "pad"  # "crop" cuts off what does not fit: for photos alone
    patch: int = 16
    vision_width: int = 768  # this and the next three are ViT-B/16's
    vision_layers: int = 12
    vision_heads: int = 12
    vision_inner: int = 3072
    hidden: int = 512
    heads: int = 8
    inner: int = 2048
    layers: int = 6
    cross_every: int = 3  # the image is attended to in every so many-th layer of the decoder
    longest: int = 128  # tokens of a text
    vision_weights: str = ""  # a file of torchvision's, or a name such as ViT_B_16_Weights.IMAGENET1K_V1
    vision_share: float = 0.1  # of the learning rate, for an encoder that has learned before; 0: it stays
    factor: float = 1.0  # where lr is 0 it is factor * (hidden * warmup_steps) ** -0.5
    warmup_steps: int = 4000  # of that formula alone: `warmup` says how long the rate rises
    dropout: float = 0.1
    scales: str = ""  # sizes to train at beside one another, as shares: "0.75,1,1.25"; empty: 1 alone
    vocabulary: int = 8000  # at most so many byte-level BPE tokens, learned from the texts
    words: str = ""  # underthesea or spacy: frequent words of several syllables become tokens
    shown: Literal["text", "photo", "aerial"] = "text"  # photos may be mirrored, aerial ones turned
    beams: int = 1
    length_penalty: float = 1.0  # of beams: above 1 longer texts win, below shorter ones


SEEN = ("height", "width", "fit", "patch", "vision_width", "vision_layers", "vision_heads", "vision_inner")
SPELLED = ("longest", "vocabulary", "words")
OWN = (*SEEN, "vision_weights", "hidden", "heads", "inner", "layers", "cross_every", *SPELLED, "shown")


class GatedLayer(nn.Module):
    """Self-attention, a gated look at the image where `looks`, feed-forward; the norm before each."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, looks: bool) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.feed = FeedForward(width, inner, dropout, nn.GELU)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 + looks))
        if looks:
            self.cross = Attention(width, heads, dropout)
            self.gate = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, seen: Tensor, past: Pair, memory: Pair | None) -> tuple[Tensor, Pair]:
        """[B,S,width], and the keys and values of its S positions."""
        own = self.norms[0](x)
        new = self.attention.keys(own)
        x = x + self.attention(own, *joined(past, new), seen)
        if memory is not None:
            x = x + self.look(self.norms[2](x), memory)
        return x + self.feed(self.norms[1](x)), new

    def look(self, text: Tensor, memory: Pair) -> Tensor:
        """What the text [B,S,width] finds in the image, each channel as far as its gate is open."""
        found = self.cross(text, *memory)
        weighed: Tensor = torch.sigmoid(self.gate(torch.cat([text, found], -1))) * found
        return weighed


class VitGated(ImageToText):
    """Everything learns (the encoder at its own rate), so images are their own features."""

    def __init__(self, tokenizer: Tokenizer, hyper: VitGatedHyper, learned_before: bool) -> None:
        super().__init__()
        check(hyper)
        self.tokenizer, self.alphabet = tokenizer, tokens.fingerprint(tokenizer)
        self.shape = {name: asdict(hyper)[name] for name in OWN}
        self.preprocessing = Preprocessing(hyper.height, "rgb", MEAN, STD, width=hyper.width, fit=hyper.fit)
        start, end = tokens.ends(tokenizer)
        self.generation = Generation((start,), end, hyper.longest, hyper.beams, hyper.length_penalty)
        self.past_shapes = shapes(hyper.layers, hyper.heads, hyper.hidden // hyper.heads)
        self.grid: Grid = (hyper.height // hyper.patch, hyper.width // hyper.patch)
        self.grids = grids(self.grid, hyper.scales)
        self.best_by = "cer" if hyper.shown == "text" else "cider_d"
        self.augment = another if hyper.shown == "text" else partial(photo, upright=hyper.shown == "photo")
        self.vision_share = hyper.vision_share if learned_before else 1.0
        self.vision = vision(hyper, self.grid).requires_grad_(self.vision_share > 0)
        self.narrow = nn.Linear(hyper.vision_width, hyper.hidden)
        size = (hyper.hidden, hyper.heads, hyper.inner, hyper.dropout)
        self.looking = [i for i in range(hyper.layers) if (i + 1) % hyper.cross_every == 0]
        self.layers = nn.ModuleList(GatedLayer(*size, i in self.looking) for i in range(hyper.layers))
        self.words = nn.Embedding(len(self.alphabet), hyper.hidden)
        self.positions = nn.Embedding(hyper.longest + 1, hyper.hidden)
        for embedding in (self.words, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)
        self.drop, self.norm = nn.Dropout(hyper.dropout), nn.LayerNorm(hyper.hidden)
        self.head = nn.Linear(hyper.hidden, len(self.alphabet))

    def encode(self, features: Tensor) -> Named:
        """[B,3,H,W] -> keys and values of class token and patches, for the layers that look."""
        if self.training and self.grids:
            features = self._resized(features)
        cells = self.narrow(self._seen(features))
        memory: Named = {}
        for i in self.looking:
            key, value = self._cross(i).keys(cells)
            memory |= {f"{i}.key": key, f"{i}.value": value}
        return memory

    def decode(self, tokens: Tensor, length: Tensor, memory: Named, past: Named) -> tuple[Tensor, Named]:
        x = self.drop(embedded(self.words, tokens, length, self.positions))
        seen = visible(length, past["0.key"].shape[2], tokens.shape[1])
        new: Named = {}
        for i, layer in enumerate(self.layers):
            looks = pair(memory, str(i)) if i in self.looking else None
            x, (key, value) = layer(x, seen, pair(past, str(i)), looks)
            new |= {f"{i}.key": key, f"{i}.value": value}
        return self.head(self.norm(x)), new

    def parameter_groups(self, hyper: Hyper) -> list[dict[str, Any]]:
        assert isinstance(hyper, VitGatedHyper)
        width = self.words.embedding_dim
        rate = hyper.lr or hyper.factor * (width * hyper.warmup_steps) ** -0.5
        seeing = [p for p in self.vision.parameters() if p.requires_grad]
        own = {id(p) for p in self.vision.parameters()}
        groups = [{"params": [p for p in self.parameters() if id(p) not in own], "lr": rate}]
        return [*groups, {"params": seeing, "lr": rate * self.vision_share}] if seeing else groups

    def pictures(self, images: Sequence[Pixels]) -> dict[str, bytes]:
        """A PNG per image: where the decoder looked for each token that it wrote."""
        self.eval()
        return {f"attention_{i}.png": self._picture(image) for i, image in enumerate(images)}

    def _cross(self, number: int) -> Attention:
        """The attention to the image of a layer that looks."""
        layer = self.layers[number]
        assert isinstance(layer, GatedLayer)  # as all of them are
        return layer.cross

    def _resized(self, images: Tensor) -> Tensor:
        """A batch at one of the sizes to train at, drawn by torch's own seed."""
        rows, columns = self.grids[int(torch.randint(len(self.grids), ()))]
        patch = self.vision.patch_size
        size = (rows * patch, columns * patch)
        return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)

    def _seen(self, images: Tensor) -> Tensor:
        """[B,3,H,W] -> [B,1+cells,vision_width], sides being multiples of the patch."""
        net = self.vision
        cells = net.conv_proj(images)
        place = regridded(net.encoder.pos_embedding, self.grid, (cells.shape[2], cells.shape[3]))
        x = torch.cat([net.class_token.expand(cells.shape[0], -1, -1), cells.flatten(2).transpose(1, 2)], 1)
        seen: Tensor = net.encoder.ln(net.encoder.layers(net.encoder.dropout(x + place)))
        return seen

    @torch.inference_mode()
    def _picture(self, image: Pixels) -> bytes:
        tensor = torch.from_numpy(to_tensor(image, self.preprocessing))
        memory = self.encode(tensor[None].to(self.words.weight.device))
        named = {MEMORY + name: value.float().cpu().numpy() for name, value in memory.items()}
        [(written, _)] = generate(TorchDecoder(self), named, self.generation)
        pieces = [self.tokenizer.decode([token]) for token in written[:SHOWN]]
        shown = (tensor * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]).clamp(0, 1)
        return drawn(shown.permute(1, 2, 0).numpy(), pieces, self.looks(memory, written).numpy())

    def looks(self, memory: Named, written: Sequence[int]) -> Tensor:
        """How much each token looked at each patch as it was written: [S, rows, columns], the heads' mean."""
        seen: list[Tensor] = []

        def note(cross: Attention, given: tuple[Tensor, Tensor, Tensor], _: Tensor) -> None:
            query, key = split_heads(cross.query(given[0]), cross.heads), given[1]
            seen.append((query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1).mean(1))

        hooks = [self._cross(i).register_forward_hook(note) for i in self.looking]
        start = list(self.generation.start)
        given = torch.tensor([[*start, *written]], device=self.words.weight.device)
        none = {n: self.words.weight.new_zeros(1, h, 0, d) for n, (h, d) in self.past_shapes.items()}
        self.decode(given, torch.zeros_like(given[:, 0]), memory, none)
        for hook in hooks:
            hook.remove()
        mean = torch.stack(seen).mean(0)[0, len(start) - 1 : -1, 1:]
        cells: Tensor = mean.unflatten(1, self.grid)
        return cells.float().cpu()


def another(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Another look at a line, or at a page or block whose letters are small beside its height."""
    look = augment if image.shape[0] <= LINE_PX else another_scan
    return look(image, rng, strength)


def check(hyper: VitGatedHyper) -> None:
    """BadInput where sizes do not go together."""
    if min(hyper.patch, hyper.warmup_steps, hyper.heads, hyper.vision_heads) < 1:
        raise BadInput("patch, warmup_steps, heads and vision_heads must be at least 1")
    if hyper.height % hyper.patch or hyper.width % hyper.patch:
        raise BadInput(f"height and width must be multiples of the patch, {hyper.patch} px")
    if hyper.hidden % hyper.heads or hyper.vision_width % hyper.vision_heads:
        raise BadInput("hidden must be a multiple of heads, and vision_width of vision_heads")
    if not 1 <= hyper.cross_every <= hyper.layers:
        raise BadInput(f"cross_every must be 1 to layers ({hyper.layers}), so that some layer sees the image")


def grids(grid: Grid, scales: str) -> list[Grid]:
    """The grids of patches to train at."""
    try:
        shares = [float(share) for share in scales.split(",") if share.strip()]
    except ValueError as error:
        raise BadInput(f"scales must be shares such as 0.75,1,1.25, not {scales!r}") from error
    if not all(0 < share <= 4 for share in shares):
        raise BadInput(f"scales must lie above 0 and be at most 4, not {scales!r}")
    return [(max(1, round(grid[0] * s)), max(1, round(grid[1] * s))) for s in shares]


def pieces_of(texts: Sequence[str], hyper: VitGatedHyper) -> Tokenizer:
    """A byte-level tokenizer of the texts, which keeps case and marks; with whole words where wanted."""
    whole = compounds(texts, segmenter(hyper.words), hyper.vocabulary // 4) if hyper.words else []
    tokenizer = tokens.byte_pieces(texts, hyper.vocabulary - len(whole))
    tokenizer.add_tokens([AddedToken(f" {word}") for word in whole])
    return tokenizer


def build(parent: Path | None, texts: Iterable[str], hyper: VitGatedHyper) -> VitGated:
    """A new model that spells `texts`, or that of a vit_gated bundle; byte-level tokens spell everything."""
    if parent is None:
        model = VitGated(pieces_of(list(texts), hyper), hyper, bool(hyper.vision_weights))
        if hyper.vision_weights:
            load_vision(model.vision, model.grid, hyper.vision_weights)
        return model
    manifest = Manifest.load(parent)
    if manifest.lineage.get("recipe") != RECIPE.name:
        raise BadInput("vit_gated goes on from bundles of its own kind alone; leave --param parent out")
    same = replace(hyper, **manifest.lineage["shape"])
    model = VitGated(tokens.of_bundle(parent), same, learned_before=True)
    fp32 = manifest.graphs[Precision.FP32], manifest.decoders[Precision.FP32]
    load_parts(model, *(parent / graph.file for graph in fp32))
    return model


RECIPE = Recipe(
    name="vit_gated",
    summary="trains a vision transformer and a gated text decoder to write captions, blocks and lines",
    defaults=VitGatedHyper(
        lr=0.0,
        batch=16,
        steps=0,
        passes=40,
        report_every=0,
        warmup=0.1,
        schedule="cosine",
        clip=1.0,
        accumulate=2,
        patience=7,
        smoothing=0.1,
        weight_decay=0.01,
        precision="bf16",
        replay=0.0,
        rehearsal=0,
        earlier=4000,
        augment=0.5,
        validation=0.1,
    ),
    build=build,
    starts_from="own",
    rehearses=False,
    keeps=OWN,
    task=Task.CAPTION,
)
