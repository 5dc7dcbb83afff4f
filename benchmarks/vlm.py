"""Adapters read by a running vLLM server, beside torch: are the texts the same, and how many lines a second.

    vllm serve BASE --dtype float32 --enable-lora --max-lora-rank 32   (docs/families/qwen_vl_lora.md)
    python -m benchmarks.vlm --base BASE --url http://127.0.0.1:8000/v1 [--lines 20]

The adapters are random ones, large enough to change what is written. `--base` may be a folder of
`benchmarks.random_models`. In half precision a near tie may fall otherwise.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from redpencil import generate
from redpencil.linepack import load
from redpencil.pixels import Pixels, to_tensor
from redpencil.types import LineText
from redpencil.vlm import VlmReader
from training import lora
from training.recipes import qwen_vl_lora
from training.recipes.qwen_vl_lora import QwenVl
from training.torch_decoder import TorchDecoder

TOGETHER = (1, 4, 16)  # lines that are asked at once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--lines", type=int, default=20)
    parser.add_argument("--longest", type=int, default=16)
    asked = parser.parse_args()
    images = [line.image for line in load("golden")[: asked.lines]]
    model = adapted(asked.base, asked.longest)
    with tempfile.TemporaryDirectory() as folder:
        model.to_bundle(Path(folder), (), {"recipe": "qwen_vl_lora"})
        reader = VlmReader(Path(folder), asked.url)
        reader.warm()
        found = rates(reader, images)
    compare([written(model, image) for image in images], found)


def adapted(base: str, longest: int) -> QwenVl:
    """The base with adapters that say something."""
    torch.manual_seed(0)
    hyper = qwen_vl_lora.RECIPE.defaults.updated({"base": base, "longest": longest, "form": "adapters"})
    model = qwen_vl_lora.build(None, (), hyper).eval()
    for _, layer in lora.adapters(model.language):
        torch.nn.init.normal_(layer.up, std=0.1)
    return model


def written(model: QwenVl, image: Pixels) -> LineText:
    """What torch writes of an image."""
    tensor = torch.from_numpy(to_tensor(image, model.preprocessing))[None]
    with torch.inference_mode():
        seen = {f"memory.{n}": v.numpy() for n, v in model.encode(model.features(tensor)).items()}
    tokens, sure = generate.generate(TorchDecoder(model), seen, model.generation)[0]
    return LineText(model.tokenizer.decode(tokens).strip(), float(np.mean(sure)), ())


def rates(reader: VlmReader, images: list[Pixels]) -> list[LineText]:
    """Print lines a second, by how many are asked at once; returns what was read."""
    found: list[LineText] = []
    for together in TOGETHER:
        began = time.perf_counter()
        with ThreadPoolExecutor(together) as pool:
            found = list(pool.map(reader.read, images))
        print(f"{together:3} at once: {len(images) / (time.perf_counter() - began):.2f} lines/s")
    return found


def compare(wanted: list[LineText], found: list[LineText]) -> None:
    """Print whether both are the same, but for an unfinished character at the end, which vLLM leaves out."""
    pairs = list(zip(wanted, found, strict=True))
    same = [(a, b) for a, b in pairs if b.text and a.text.startswith(b.text.rstrip("\ufffd"))]
    apart = [abs(a.confidence - b.confidence) for a, b in same]
    print(f"as torch: {len(same)} of {len(pairs)}; confidences apart by {max(apart, default=0):.5f} at most")


if __name__ == "__main__":
    main()
