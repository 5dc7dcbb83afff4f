"""CLIP sees, an adapter translates, a language model writes: captions for the price of training the adapter.

After ClipCap (Mokady et al. 2021): what a frozen CLIP says of an image becomes, by a small network,
the vectors of a prefix that a frozen language model goes on from. What of the language model learns
as well (its last layers, or matrices of low rank) is chosen by hyper-parameters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer
from torch import Tensor, nn

from redpencil.bundle import Generation, Manifest
from redpencil.errors import BadInput
from redpencil.pixels import Preprocessing
from redpencil.types import Precision, Task
from training import causal_lm, half, lora, pretrained, tokens
from training.crops import Line
from training.hyper import Hyper
from training.image_to_text import ImageToText, Named
from training.recipe import OF_WRITING, Recipe
from training.weights import load_parts

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP
ADAPTED = ("q_proj", "v_proj")
SIZES = ("prefix", "inner")
KEPT = (*SIZES, "vision", "language", "prompt", "longest")


@dataclass(frozen=True)
class ClipPrefixHyper(Hyper):
    """Which models, and what of them learns.

    A run that goes on from a version of this family keeps its models, sizes, prompt and longest
    text, and refuses others; how it writes and what learns are the run's own choice.
    """

    vision: str = (
        "openai/clip-vit-base-patch32"  # a folder as transformers saves models, or a name on its hub
    )
    language: str = "Qwen/Qwen3-0.6B-Base"  # likewise
    prefix: int = 10  # vectors that an image becomes
    inner: int = 1024  # width of the adapter's hidden layer
    prompt: str = ""  # words between the image and its caption
    longest: int = 64  # tokens of a caption
    beams: int = 1
    length_penalty: float = 1.0  # of beams: above 1 longer captions win, below shorter ones
    dropout: float = 0.0  # within the adapter, and in front of the matrices of low rank
    unfreeze: int = 0  # the language model's last layers that learn too
    lora_r: int = 0  # rank of matrices beside its query and value projections that learn; 0: none
    lora_alpha: float = 32.0
    language_lr: float = 1e-4  # of all that learns in the language model


@dataclass(frozen=True)
class Parts:
    """What exists before the adapter does, and how it is used."""

    vision: Any
    language: causal_lm.CausalLM
    tokenizer: Tokenizer
    preprocessing: Preprocessing
    generation: Generation

    @classmethod
    def pretrained(cls, hyper: ClipPrefixHyper) -> Self:
        """The models that are named; BadInput says what is missing."""
        vision, preprocessing = clip(hyper.vision)
        language, tokenizer = causal_lm.load(hyper.language)
        end = pretrained.end_of(pretrained.folder_of(hyper.language), tokenizer)
        image = (-k - 1 for k in range(hyper.prefix))
        prompt = tokenizer.encode(hyper.prompt, add_special_tokens=False).ids
        start = (*tokenizer.encode("").ids, *image, *prompt)
        generation = Generation(start, end, hyper.longest, hyper.beams, hyper.length_penalty)
        return cls(vision, language, tokenizer, preprocessing, generation)

    @classmethod
    def of_bundle(cls, folder: Path, manifest: Manifest) -> Self:
        """Models as those of a bundle, whose weights are still to be filled in."""
        from transformers import CLIPVisionConfig, CLIPVisionModel

        shape, generation = manifest.lineage["shape"], manifest.generation
        assert generation is not None  # as Manifest.load has checked
        configs = shape.get("configs", shape)  # older shapes had them under the names' keys
        vision = CLIPVisionModel(CLIPVisionConfig(**configs["vision"])).float()
        language = causal_lm.of_config(configs["language"])
        return cls(vision, language, tokens.of_bundle(folder), manifest.preprocessing, generation)


class ClipPrefix(ImageToText):
    """What CLIP says is an image's features; the adapter learns, and what is chosen of the writer."""

    def __init__(self, parts: Parts, hyper: ClipPrefixHyper) -> None:
        super().__init__()
        self.tokenizer, self.preprocessing = parts.tokenizer, parts.preprocessing
        self.generation = parts.generation
        self.alphabet = (hashlib.sha256(parts.tokenizer.to_str().encode()).hexdigest(),)
        self.vision = parts.vision.requires_grad_(False).eval()
        self.language = parts.language.requires_grad_(False)
        half.check(self.vision, "vision model")
        half.check(self.language, "language model")
        self.past_shapes = self.language.past_shapes
        self.adapter = adapter(self.vision.config.hidden_size, self.language, hyper)
        configs = {n: causal_lm.plain(getattr(self, n).config) for n in ("vision", "language")}
        self.shape = {"configs": configs} | {name: getattr(hyper, name) for name in KEPT}
        self.open(hyper)

    def open(self, hyper: ClipPrefixHyper) -> None:
        """Let the chosen part of the language model learn; matrices learned beside it become part of it."""
        settle(self.language)
        self.language.requires_grad_(False)
        if hyper.lora_r:
            lora.adapt(self.language, ADAPTED, hyper.lora_r, hyper.lora_alpha, hyper.dropout)
        for layer in self.language.layers[max(0, len(self.language.layers) - hyper.unfreeze) :]:
            layer.requires_grad_(True)
        self.shape |= {"lora_r": hyper.lora_r, "lora_alpha": hyper.lora_alpha}

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.vision.eval()
        return self

    def features(self, images: Tensor) -> Tensor:
        """[B,3,side,side] -> what CLIP says of each image as a whole, [B,seen]."""
        answer: Tensor = self.vision(images).pooler_output
        return answer

    def encode(self, features: Tensor) -> Named:
        return {"prefix": self.adapter(features)}

    def decode(self, tokens: Tensor, length: Tensor, memory: Named, past: Named) -> tuple[Tensor, Named]:
        vectors = self.language.embed(tokens, memory["prefix"])
        answer: tuple[Tensor, Named] = self.language(vectors, length, past)
        return answer

    def spell(self, text: str) -> list[int]:
        """The tokens of a text; behind a prompt they begin with a space."""
        return super().spell(f" {text}" if self.generation.start[-1] >= 0 else text)

    def to_bundle(self, folder: Path, lines: Sequence[Line], lineage: dict[str, Any]) -> Manifest:
        """What is too large for a file is kept in half precision, from here on."""
        half.fit(self.vision)
        if half.size(self.language) > half.LARGEST:
            settle(self.language)
            self.shape |= {"lora_r": 0}
            half.fit(self.language)
        return super().to_bundle(folder, lines, lineage)

    def parameter_groups(self, hyper: Hyper) -> list[dict[str, Any]]:
        assert isinstance(hyper, ClipPrefixHyper)
        own = {"params": list(self.adapter.parameters()), "lr": hyper.lr}
        chosen = [p for p in self.language.parameters() if p.requires_grad]
        return [own, {"params": chosen, "lr": hyper.language_lr}] if chosen else [own]


def adapter(seen: int, language: causal_lm.CausalLM, hyper: ClipPrefixHyper) -> nn.Sequential:
    """[B, seen] -> [B, prefix, hidden], at first about as large as the language model's words."""
    last = nn.Linear(hyper.inner, hyper.prefix * language.hidden)
    nn.init.normal_(last.weight, std=float(language.words.weight.detach().std()) / hyper.inner**0.5)
    nn.init.zeros_(last.bias)
    inside = nn.LayerNorm(seen), nn.Linear(seen, hyper.inner), nn.GELU(), nn.Dropout(hyper.dropout)
    return nn.Sequential(*inside, last, nn.Unflatten(1, (hyper.prefix, language.hidden)))


def settle(model: nn.Module) -> None:
    """Make one layer again of every layer and the matrices beside it."""
    for name, layer in list(lora.adapters(model)):
        one = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        one.weight, one.bias = nn.Parameter(layer.merged().detach()), layer.bias
        model.set_submodule(name, one)


def clip(folder_or_name: str) -> tuple[Any, Preprocessing]:
    """CLIP's vision tower, out of a folder with it or with all of CLIP, and how it wants its images."""
    from transformers import CLIPVisionModel

    folder = pretrained.folder_of(folder_or_name)
    kind = pretrained.config_of(folder)["model_type"]
    if kind not in ("clip", "clip_vision_model"):
        raise BadInput(f"{folder} holds a {kind} model; the vision model has to be a CLIP")
    vision = pretrained.weights(CLIPVisionModel, folder)
    side, file = vision.config.image_size, folder / "preprocessor_config.json"
    mean, std = (_colours(file, f"image_{n}", usual) for n, usual in (("mean", MEAN), ("std", STD)))
    return vision, Preprocessing(side, "rgb", mean, std, width=side, fit="crop")


def _colours(file: Path, name: str, usual: tuple[float, ...]) -> tuple[float, ...]:
    """What a file says of red, green and blue."""
    said = pretrained.said_in(file).get(name)
    said = usual if said is None else said
    numbers = [n for n in said if isinstance(n, int | float)] if isinstance(said, list | tuple) else []
    if len(numbers) != 3 or len(said) != 3:
        raise BadInput(f"{file}: {name} is three numbers, for red, green and blue, not {str(said)[:60]}")
    return tuple(numbers)


def build(parent: Path | None, texts: Iterable[str], hyper: ClipPrefixHyper) -> ClipPrefix:
    """Pre-trained models under a new adapter, or a version of this family with all that it has learned."""
    if parent is None:
        model = ClipPrefix(Parts.pretrained(hyper), hyper)
    else:
        model = of_bundle(parent, hyper)
        model.open(hyper)
    check_texts(model.tokenizer, texts)
    return model


def of_bundle(folder: Path, hyper: ClipPrefixHyper) -> ClipPrefix:
    """The model of a version, from its bundle alone."""
    manifest = Manifest.load(folder)
    if manifest.lineage.get("recipe") != RECIPE.name:
        raise BadInput("clip_prefix goes on from bundles of its own kind alone; leave --param parent out")
    shape = manifest.lineage["shape"]
    hyper = replace(hyper, **{n: shape[n] for n in (*SIZES, "lora_r", "lora_alpha")})
    parts = Parts.of_bundle(folder, manifest)
    own = {name: getattr(hyper, name) for name in OF_WRITING}
    parts = replace(parts, generation=replace(parts.generation, **own))
    model = ClipPrefix(parts, hyper)
    fp32 = manifest.graphs[Precision.FP32], manifest.decoders[Precision.FP32]
    load_parts(model, *(folder / graph.file for graph in fp32))
    return model


def check_texts(tokenizer: Tokenizer, texts: Iterable[str]) -> None:
    """BadInput where the language model has no word for something; most can spell everything."""
    unknown = getattr(tokenizer.model, "unk_token", None)
    for text in texts if unknown else ():
        if unknown in tokenizer.encode(text, add_special_tokens=False).tokens:
            raise BadInput(f"the language model's tokenizer cannot spell all of {text!r}; take another one")


RECIPE = Recipe(
    name="clip_prefix",
    summary="teaches an adapter between a frozen CLIP and a frozen language model to write captions",
    defaults=ClipPrefixHyper(
        lr=1e-3,
        batch=16,
        schedule="step",
        decay=0.9,
        decay_every=2,
        steps=0,
        passes=20,
        report_every=0,
        warmup=0.02,
        clip=1.0,
        patience=4,
        weight_decay=0.01,
        precision="bf16",
        replay=0.0,
        rehearsal=0,
        earlier=4000,
        copies=1,
        augment=0.0,
        validation=0.1,
    ),
    build=build,
    starts_from="own",
    rehearses=False,
    keeps=KEPT,
    task=Task.CAPTION,
)
