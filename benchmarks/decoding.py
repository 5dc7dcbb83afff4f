"""Decoding with kept keys and values against computing every token again, on the same graphs.

    python -m benchmarks.decoding --recipe catr --tokens 40 --together 8

A model of the recipe's default sizes with random weights writes so many tokens about a few images, by
ONNX Runtime on one thread: once as it is served, once with the whole text given to the decoder anew
for every token. Both must write the same tokens in FP32; dynamic INT8 scales what it is given all
together, so more tokens at once are rounded otherwise, and images are decoded one by one. The encoder's
time is told apart. `served` is the encoder once and tokens kept; `original` runs both graphs anew for
every token, as CATR's code did. `--together`: so many requests come at once and share a decoder's runs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from redpencil.generate import Decoder, Tensors, TextReader, generate
from redpencil.reader import open_reader
from redpencil.types import Precision
from training import recipe
from training.crops import Line

TEXTS = tuple(f"word{n} follows word{n + 1} and word{n + 2}" for n in range(300))


class Forgetful:
    """The same decoder, keeping tokens instead of keys and values."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.past, self.tokens = decoder, decoder.past, np.zeros((0, 0), np.int64)

    def run(self, tokens: Any, lengths: Any, memory: Tensors, past: Tensors) -> tuple[Any, Tensors]:
        self.tokens = np.concatenate([self.tokens.reshape(len(tokens), -1), tokens], 1)
        none = {n: np.zeros((len(tokens), h, 0, d), np.float32) for n, (h, d) in self.past.items()}
        logits, new = self.decoder.run(self.tokens, np.zeros(len(tokens), np.int64), memory, none)
        return logits, {n: v[:, :, -tokens.shape[1] :] for n, v in new.items()}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    answer = work()
    return time.process_time() - began, answer


def measure(reader: TextReader, images: Sequence[Any], tokens: int, together: int) -> dict[str, float]:
    """`together` images share every run of the decoder, where the server lets them."""
    how = replace(reader.generation, end=-1, longest=tokens, beams=1)
    together = 1 if reader.precision is Precision.INT8 else together
    same = 0
    spent = {"encoder": 0.0, "kept": 0.0, "anew": 0.0}
    for first in range(0, len(images), together):
        seconds, memories = timed(lambda f=first: [reader.look(i[None]) for i in images[f : f + together]])
        memory = {name: np.concatenate([m[name] for m in memories]) for name in memories[0]}
        spent["encoder"] += seconds
        seconds, kept = timed(lambda m=memory: generate(reader._decoder, m, how))
        spent["kept"] += seconds
        seconds, anew = timed(lambda m=memory: generate(Forgetful(reader._decoder), m, how))
        spent["anew"] += seconds
        same += sum(one[0] == other[0] for one, other in zip(kept, anew, strict=True))
    count = len(images)
    told = {f"{name}_ms": round(1000 * s / count, 1) for name, s in spent.items()}
    told |= {"together": together, "same_tokens": same / count}
    told["anew_to_kept"] = round(spent["anew"] / spent["kept"], 2)
    seconds, _ = timed(lambda: [reader.look(images[0][None]) for _ in range(tokens)])
    served, original = (spent["encoder"] + spent["kept"]) / count, seconds + spent["anew"] / count
    return told | {
        "original_ms": round(1000 * original, 1),
        "original_to_served": round(original / served, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="catr")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--images", type=int, default=12, help="looked at, one of four each")
    parser.add_argument("--together", type=int, default=1, help="images whose requests come at once")
    asked = parser.parse_args()
    chosen = recipe.find(asked.recipe)
    torch.manual_seed(0)
    hyper = chosen.defaults.updated(dict(p.split("=", 1) for p in asked.set))
    model = chosen.build(None, TEXTS, hyper)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (96, 96, 3), dtype=np.uint8) for _ in range(4)]
    lines = [Line(picture, TEXTS[n], str(n)) for n, picture in enumerate(pictures)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manifest = model.to_bundle(folder, lines, {"recipe": asked.recipe})
        row: dict[str, Any] = {"recipe": asked.recipe, "tokens": asked.tokens, "params": asked.set}
        for precision in (p for p in Precision if p in manifest.graphs):
            reader = open_reader(folder, precision)
            assert isinstance(reader, TextReader)
            images = [reader.tensor(pictures[n % len(pictures)]) for n in range(asked.images)]
            row[precision.value] = measure(reader, images, asked.tokens, asked.together)
        row["bytes"] = {file.file: file.bytes for file in manifest.files()}
        print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
