"""Qwen2.5-VL reads lines of a script for which there is little data; only adapters (LoRA) learn.

After Qwen2.5-VL (Bai et al. 2025) and LoRA (Hu et al. 2021): rank 32 and alpha 64 on the query and
value projections of the language model. Every image goes onto a canvas of one size, so a batch has
as many image tokens as vectors, whatever images are in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from redpencil.bundle import Generation, Manifest
from redpencil.errors import BadInput, NotReady
from redpencil.pixels import Preprocessing
from redpencil.settings import Settings
from redpencil.types import Precision, Task
from redpencil.vlm import start_of
from training import causal_lm, half, lora, pretrained, qwen_hub, tokens
from training.crops import Line
from training.hyper import Hyper
from training.image_to_text import ImageToText, Named
from training.qwen_vision import Vision
from training.recipe import Recipe
from training.weights import load_parts

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP
ADAPTED = ("q_proj", "v_proj")
IMAGE = "<|image_pad|>"
CHAT = (
    f"<|im_start|>system\n{qwen_hub.SYSTEM}<|im_end|>\n<|im_start|>user\n<|vision_start|>",
    "<|vision_end|>{prompt}<|im_end|>\n<|im_start|>assistant\n",
)
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", IMAGE)


@dataclass(frozen=True)
class QwenHyper(Hyper):
    """What is read and what learns; a run that goes on from such a version keeps all but the last two."""

    base: str = "Qwen/Qwen2.5-VL-3B-Instruct"  # a folder as transformers saves models, or a name on its hub
    height: int = 56  # of the canvas in pixels, a multiple of 28
    width: int = 1120
    prompt: str = "Read the text in the image."
    longest: int = 256  # tokens of a text
    rank: int = 32
    alpha: int = 64
    dropout: float = 0.05  # in front of the adapters
    checkpointing: bool = False  # compute activations again instead of keeping them
    form: Literal["auto", "onnx", "adapters"] = "auto"  # of its versions: graphs where these can hold it


class QwenVl(ImageToText):
    """The vision tower stays, so what it sees is its features; adapters of the language model learn."""

    best_by = "cer"
    places: Tensor
    as_adapters = False
    """Whether its versions are adapters, for a server that runs the base, or graphs that hold all of it."""

    def __init__(self, whole: Any, tokenizer: Tokenizer, hyper: QwenHyper) -> None:
        super().__init__()
        self.tokenizer, self.alphabet = tokenizer, tokens.fingerprint(tokenizer)
        self.shape = {n: getattr(hyper, n) for n in KEPT} | {"config": causal_lm.plain(whole.config)}
        self.preprocessing = Preprocessing(
            hyper.height, "rgb", MEAN, STD, width=hyper.width, fit="pad", pad_value=None
        )
        self.vision = Vision(whole.model.visual, hyper.height, hyper.width).requires_grad_(False)
        self.language = causal_lm.CausalLM(whole.model.language_model, whole.lm_head)
        self.language.checkpointing = hyper.checkpointing
        lora.adapt(self.language, ADAPTED, hyper.rank, hyper.alpha, hyper.dropout)
        self.past_shapes = self.language.past_shapes
        before, after = (tokenizer.encode(part.format(prompt=hyper.prompt)).ids for part in CHAT)
        start = (*before, *(-k - 1 for k in range(self.vision.count)), *after)
        end = tokenizer.token_to_id("<|im_end|>")
        assert end is not None  # as whole_of has checked
        self.generation = Generation(start, end, hyper.longest)
        places = self._places(len(before), len(start) + hyper.longest)
        self.register_buffer("places", places, persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """[B,3,height,width] -> what the vision tower says, [B,P,hidden]."""
        answer: Tensor = self.vision(images)
        return answer

    def encode(self, features: Tensor) -> Named:
        return {"prefix": features}

    def decode(self, tokens: Tensor, length: Tensor, memory: Named, past: Named) -> tuple[Tensor, Named]:
        at = length[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
        vectors = self.language.embed(tokens, memory["prefix"])
        answer: tuple[Tensor, Named] = self.language(vectors, length, past, self.places[:, at])
        return answer

    def to_bundle(self, folder: Path, lines: Sequence[Line], lineage: dict[str, Any]) -> Manifest:
        if self.as_adapters:
            return qwen_hub.to_bundle(self, folder, lineage)
        return super().to_bundle(folder, lines, lineage)

    def expect(self, settings: Settings) -> None:
        if self.as_adapters and not settings.vlm_url:
            raise NotReady(
                "versions of this model are adapters, judged and served by a server that runs their base; "
                "set REDPENCIL_VLM_URL to where it is or will be, and start it: "
                f"{start_of(self.shape['base'], self.shape['rank'])}"
            )

    def to_hub(self, folder: Path, merged: bool) -> dict[str, Any]:
        """Write adapters for peft, or the whole model for transformers; returns the head of a model card."""
        return qwen_hub.write(self, folder, merged)

    def _places(self, before: int, most: int) -> Tensor:
        """Time, row and column [3,most] of every position.

        Words count on in all three; image vectors share the time at which the image comes, and the
        words behind it go on above its longer side.
        """
        rows, columns = (side // self.vision.merge for side in self.vision.grid)
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        seen = torch.stack([torch.zeros(rows * columns), row.flatten(), column.flatten()]).long() + before
        behind = torch.arange(most - before - rows * columns) + before + max(rows, columns)
        return torch.cat([torch.arange(before).expand(3, -1), seen, behind.expand(3, -1)], 1)


def build(parent: Path | None, texts: Iterable[str], hyper: QwenHyper) -> QwenVl:
    """Qwen2.5-VL with fresh adapters, or a version of this family with the adapters that it has learned."""
    model = of_base(hyper) if parent is None else of_bundle(parent, hyper)
    size = max(map(half.size, (model.vision, model.language)))
    if size > half.LARGEST and hyper.form == "onnx":
        raise BadInput(
            f"an ONNX file holds {half.LARGEST / 1e9:.1f} GB at most, a part of this model has "
            f"{size / 1e9:.1f}: leave --param form=onnx out, and its versions are adapters"
        )
    if hyper.form != "auto" or size > half.LARGEST:
        model.as_adapters = hyper.form != "onnx"
    return model


def of_base(hyper: QwenHyper) -> QwenVl:
    """The model that `hyper.base` names, with adapters that change nothing yet."""
    folder = pretrained.folder_of(hyper.base)
    model = QwenVl(*whole_of(folder), hyper)
    causal_lm.check_tokenizer(model.language, model.tokenizer, folder)
    return model


def of_bundle(parent: Path, hyper: QwenHyper) -> QwenVl:
    """What a version has learned; one that holds adapters needs their base beside it."""
    manifest = Manifest.load(parent)
    if manifest.lineage.get("recipe") != RECIPE.name:
        raise BadInput("qwen_vl_lora goes on from bundles of its own kind alone; leave --param parent out")
    shape = dict(manifest.lineage["shape"])
    if manifest.adapters:
        if hyper.base != QwenHyper.base:  # its folder may have moved
            shape["base"] = hyper.base
        model = of_base(replace(hyper, **shape))
        lora.from_peft(qwen_hub.layers(model), parent / manifest.graphs[manifest.precision].file)
        model.as_adapters = True
        return model
    whole = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**shape.pop("config")))
    model = QwenVl(whole.float(), tokens.of_bundle(parent), replace(hyper, **shape))
    fp32 = manifest.graphs[Precision.FP32], manifest.decoders[Precision.FP32]
    load_parts(model, *(parent / graph.file for graph in fp32))
    return model


def whole_of(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Tokenizer]:
    """The model and the tokenizer in a folder; BadInput where they are others or do not belong together."""
    kind = pretrained.config_of(folder)["model_type"]
    if kind != "qwen2_5_vl":
        raise BadInput(f"{folder} holds a {kind} model; qwen_vl_lora adapts qwen2_5_vl")
    whole = pretrained.weights(Qwen2_5_VLForConditionalGeneration, folder, dtype)
    tokenizer = tokens.of_file(folder)
    if lacking := [token for token in SPECIAL if tokenizer.token_to_id(token) is None]:
        raise BadInput(f"the tokenizer in {folder} lacks {lacking[0]}; it is not Qwen2.5-VL's")
    here, there = tokenizer.token_to_id(IMAGE), whole.config.image_token_id
    if here != there:
        raise BadInput(
            f"the tokenizer in {folder} does not belong to its model: "
            f"{IMAGE} is {here} in the one and {there} in the other"
        )
    return whole, tokenizer


KEPT = ("base", "height", "width", "prompt", "longest", "rank", "alpha")
RECIPE = Recipe(
    name="qwen_vl_lora",
    summary="adapts Qwen2.5-VL to read a script for which there is little data",
    defaults=QwenHyper(
        lr=2e-4,
        batch=4,
        schedule="cosine",
        steps=1000,
        passes=0,
        report_every=50,
        warmup=0.05,  # 50 of 1000 steps
        clip=1.0,
        patience=0,
        weight_decay=0.01,
        precision="bf16",
        replay=0.0,
        rehearsal=0,
        earlier=4000,
        copies=3,
        augment=0.5,
        validation=0.1,
    ),
    build=build,
    starts_from="own",
    rehearses=False,
    keeps=tuple(name for name in KEPT if name != "base"),
    inherits=("base",),
    task=Task.OCR,
)
