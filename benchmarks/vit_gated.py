"""What bf16, accumulation and selective cross-attention save when vit_gated trains: time and memory.

    python -m benchmarks.vit_gated                 # ViT-B/16 at 384 x 384, on the GPU where there is one
    python -m benchmarks.vit_gated --tiny          # seconds, to see that it works

Weights are random and images are noise: neither changes how long a step takes. Every variant takes
the same images per step, prepared and learned as the loop does it, by turns of whole rounds. Memory is
what one batch keeps for its backward pass, counted on any device, and on a GPU what torch allocated and
reserved at most.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from training.crops import Line
from training.device import autocast
from training.job import Lines
from training.learner import Batch, Lessons
from training.recipes.vit_gated import RECIPE, VitGated, VitGatedHyper, build

PLAIN: dict[str, Any] = {"precision": "fp32", "cross_every": 1, "accumulate": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain: fp32, every layer looks": {},
    "bf16": {"precision": "bf16"},
    "4 batches per step": {"accumulate": 4},
    "every 3rd layer looks": {"cross_every": 3},
    "bf16, every 3rd layer looks": {"precision": "bf16", "cross_every": 3},
    "all three": {"precision": "bf16", "cross_every": 3, "accumulate": 4},
    "2 loaders": {"loaders": 2},
    "all of these": {"precision": "bf16", "cross_every": 3, "accumulate": 4, "loaders": 2},
}
TINY = {"height": 64, "width": 64, "vision_width": 64, "vision_layers": 2, "vision_heads": 4}
TINY |= {"vision_inner": 128, "hidden": 64, "heads": 4, "inner": 128, "longest": 24, "vocabulary": 400}
WORDS = ("one", "two", "three", "red", "green", "dark", "light", "house", "road", "field", "boat", "of", "on")
MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One variant in one round; memory in MiB."""

    variant: str
    seconds: float  # per optimiser step
    preparing: float  # of these, with images being prepared while the model waited
    kept: float  # by one batch, for its backward pass
    peak: float  # allocated at most; 0 without a GPU
    reserved: float  # reserved at most; 0 without a GPU


def lines(count: int, words: int) -> list[Line]:
    """Noise with texts of about so many tokens."""
    rng, chance = np.random.default_rng(0), random.Random(0)
    noise = [rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(min(count, 64))]
    return [
        Line(noise[i % len(noise)], " ".join(chance.choices(WORDS, k=words)), str(i), str(i), str(i))
        for i in range(count)
    ]


class Trainer:
    """A model that takes steps as the loop does."""

    def __init__(self, hyper: VitGatedHyper, given: Sequence[Line], device: torch.device) -> None:
        torch.manual_seed(0)
        self.hyper, self.device = hyper, device
        self.model: VitGated = build(None, [line.text for line in given], hyper).to(device).train()
        self.lessons: Lessons = self.model.lessons(Lines(list(given), [], []), hyper)
        groups = self.model.parameter_groups(hyper)
        self.trained = [p for group in groups for p in group["params"]]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=hyper.weight_decay, fused=True)
        self.preparing = 0.0

    def step(self, batches: Iterator[Batch]) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        for _ in range(self.hyper.accumulate):
            began = time.perf_counter()
            batch = next(batches)
            self.preparing += time.perf_counter() - began
            loss = self.loss(batch) / self.hyper.accumulate
            loss.backward()
            float(loss.detach())  # the loop asks for it too, so the GPU is waited for
        clip_grad_norm_(self.trained, self.hyper.clip)
        self.optimiser.step()
        wait(self.device)

    def loss(self, batch: Batch) -> Tensor:
        batch = batch.to(self.device)
        with autocast(self.device, self.hyper):
            answer = self.model(*batch.inputs)
        return self.lessons.loss(answer, batch)

    def kept(self, batch: Batch) -> float:
        """MiB that a batch keeps for its backward pass, weights left out."""
        weights = {p.untyped_storage().data_ptr() for p in self.model.parameters()}
        found: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            kept = self.loss(batch)
        del kept
        return sum(found.values()) / MIB


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(name: str, hyper: VitGatedHyper, given: Sequence[Line], device: torch.device, warm: int) -> Row:
    """One variant from its model's making to its end; the first `warm` steps are not timed."""
    forget(device)
    trainer = Trainer(hyper, given, device)
    batches = trainer.lessons.epoch(0)
    for _ in range(warm):
        trainer.step(batches)
    trainer.preparing, began = 0.0, time.perf_counter()
    timed = hyper.report_every - warm
    for _ in range(timed):
        trainer.step(batches)
    seconds = time.perf_counter() - began
    peak, reserved = most(device)
    kept = trainer.kept(next(trainer.lessons.epoch(1)))
    return Row(name, seconds / max(1, timed), trainer.preparing / max(1, timed), kept, peak, reserved)


def forget(device: torch.device) -> None:
    """Start counting memory anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def most(device: torch.device) -> tuple[float, float]:
    """MiB that torch allocated and reserved at most."""
    if device.type != "cuda":
        return 0.0, 0.0
    return torch.cuda.max_memory_allocated(device) / MIB, torch.cuda.max_memory_reserved(device) / MIB


def table(rows: Sequence[Row], images: int) -> str:
    """Medians over rounds, and each beside the plain loop of its round."""
    made = [
        "| variant | steps/s | images/s | | waiting for images | a batch keeps, MiB | | peak / reserved MiB |"
    ]
    made += ["|---|---|---|---|---|---|---|---|"]
    plain = [row for row in rows if row.variant == rows[0].variant]
    for name in dict.fromkeys(row.variant for row in rows):
        own = [row for row in rows if row.variant == name]
        seconds, kept = median(r.seconds for r in own), median(r.kept for r in own)
        faster = median(p.seconds / r.seconds for p, r in zip(plain, own, strict=True))
        waited = median(r.preparing / r.seconds for r in own)
        peak, reserved = max(r.peak for r in own), max(r.reserved for r in own)
        made.append(
            f"| {name} | {1 / seconds:.2f} | {images / seconds:.1f} | {faster:.2f}x | {waited:.0%} "
            f"| {kept:.1f} | {kept / median(p.kept for p in plain):.2f}x | {peak:.0f} / {reserved:.0f} |"
        )
    return "\n".join(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=64, help="images per optimiser step, a multiple of 4")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each variant and round")
    parser.add_argument("--warm", type=int, default=3, help="steps before these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a model of some ten thousand parameters")
    parser.add_argument("--out", type=Path, help="a JSON file for every single measurement")
    asked = parser.parse_args()
    device, rows = torch.device(asked.device), []
    base = RECIPE.defaults.updated({"report_every": asked.steps + asked.warm} | (TINY if asked.tiny else {}))
    given = lines(2 * asked.images, 8 if asked.tiny else 30)
    for _ in range(asked.rounds):
        for name, changed in VARIANTS.items():
            hyper = base.updated(PLAIN | changed)
            hyper = replace(hyper, batch=asked.images // hyper.accumulate)
            rows.append(measure(name, hyper, given, device, asked.warm))
    print(f"{asked.images} images a step, {torch.get_num_threads()} threads, {device}, {torch.__version__}")
    print(table(rows, asked.images))
    if asked.out:
        asked.out.write_text(json.dumps([asdict(row) for row in rows], indent=2), "utf-8")


if __name__ == "__main__":
    main()
