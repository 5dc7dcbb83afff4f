"""Which images are like corrected ones, so that what corrections taught writes about those alone.

An image is compared, in what the encoder of the reader before remembers of it, with images that were
corrected since and with images that this reader learned from: it is like those to which it is nearer.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redpencil.bundle import Graph, Manifest
from redpencil.generate import MEMORY, TextReader
from redpencil.types import Precision
from training.familiar import some, whitening
from training.to_onnx import to_onnx
from training.weights import constants

if TYPE_CHECKING:
    from training.crops import Line

NEIGHBOURS = 5  # at most, and at most a quarter of either kind
SAME = 0.9  # cosine of an image with itself, seen again in another precision
NAMES = ("middle", "whiten", "others", "corrected")
OLDER = "before."  # goes before the names of the earlier reader's files


class Nearer(nn.Module):
    """Says of memory [B,h,S,d] which images are nearer to `corrected` [E,D] than to `others` [O,D], bool [B].

    These are unit vectors of mean memory, D = h*d; `middle` [D] and `whiten` [D,D] take out how images
    differ in general. An image that was corrected itself is like them, whatever is near.
    """

    def __init__(self, middle: Tensor, whiten: Tensor, others: Tensor, corrected: Tensor) -> None:
        super().__init__()
        self.middle: Tensor
        self.whiten: Tensor
        self.others: Tensor
        self.corrected: Tensor
        for name, value in zip(NAMES, (middle, whiten, others, corrected), strict=True):
            self.register_buffer(name, value)

    @classmethod
    def of(cls, others: Tensor, corrected: Tensor) -> Self:
        """From memories [.,h,S,d] of images that the reader before learned from, and of corrected ones."""
        means = torch.cat([_mean(others), _mean(corrected)])
        empty = cls(*whitening(means), means[:0], means[:0])
        others = empty.whitened(others)
        known = cls(empty.middle, empty.whiten, others[some(len(others))], means[:0])
        return known.with_examples(corrected)

    def with_examples(self, corrected: Tensor) -> Self:
        """The same with more corrected images, by their memories [.,h,S,d]."""
        every = torch.cat([self.corrected, self.whitened(corrected)])
        return type(self)(self.middle, self.whiten, self.others, every[some(len(every))])

    def whitened(self, memory: Tensor) -> Tensor:
        """Mean memory as unit vectors [B,D]."""
        return F.normalize((_mean(memory) - self.middle) @ self.whiten, dim=-1)

    def forward(self, memory: Tensor) -> Tensor:
        few = min(len(self.corrected), len(self.others))
        count = min(NEIGHBOURS, max(1, few // 4))
        here = self.whitened(memory)
        own, other = ((here @ kind.T).topk(count, -1).values for kind in (self.corrected, self.others))
        return (own.mean(-1) > other.mean(-1)) | (own[:, 0] > SAME)


def _mean(memory: Tensor) -> Tensor:
    """[B,h,S,d] -> [B,h*d]."""
    return memory.mean(2).flatten(1)


def keep(folder: Path, parent: Path, compared: str, new: Sequence[Line], known: Sequence[Line]) -> None:
    """Put the reader that never changed, of the parent's bundle, into the new one, and when it reads.

    `compared` names the memory by which images are compared, `new` are corrected lines that the parent did
    not know. Where all or none are new there is nothing to tell apart, and the new reader reads all.
    """
    own = Manifest.load(parent)
    base, fresh = own.before or own, _once(new)
    others = [line for image, line in _once(known).items() if image not in fresh]
    if not own.familiar and not (fresh and others):
        return
    reader = TextReader(parent, Precision.FP32, threads=torch.get_num_threads(), manifest=base)
    corrected = _remembered(reader, compared, fresh.values())
    if own.familiar:
        stored = constants(parent / own.familiar.file)
        nearer = Nearer(*(torch.tensor(stored[name]) for name in NAMES)).with_examples(corrected)
    else:
        nearer = Nearer.of(_remembered(reader, compared, others), corrected)
    name, example = MEMORY + compared, corrected.new_zeros(2, *corrected.shape[1:])
    graph = to_onnx(nearer.eval(), (example,), [name], ["like"], {name: {0: "B"}, "like": {0: "B"}})
    (folder / "familiar.onnx").write_bytes(graph)
    familiar = Graph.of(folder / "familiar.onnx")
    replace(Manifest.load(folder), familiar=familiar, before=_moved(base, parent, folder)).save(folder)


def _once(lines: Iterable[Line]) -> dict[str, Line]:
    """A line of every image."""
    return {line.image_id: line for line in lines}


def _remembered(reader: TextReader, compared: str, lines: Iterable[Line]) -> Tensor:
    """Their memories; of none, an empty tensor of the right shape."""
    p = reader.manifest.preprocessing
    blank = np.zeros((1, len(p.mean), p.height, p.width or p.height), np.float32)
    tensors = [blank, *(reader.tensor(line.image)[None] for line in lines)]
    found = [reader.look(tensor)[MEMORY + compared] for tensor in tensors]
    return torch.from_numpy(np.concatenate(found)[1:])


def _moved(base: Manifest, source: Path, folder: Path) -> Manifest:
    """The base's manifest for the new folder, with its files there."""

    def moved(graph: Graph) -> Graph:
        name = OLDER + graph.file.removeprefix(OLDER)
        shutil.copyfile(source / graph.file, folder / name)
        return replace(graph, file=name)

    kinds: Sequence[dict[Precision, Graph]] = (base.graphs, base.decoders)
    graphs, decoders = ({precision: moved(graph) for precision, graph in kind.items()} for kind in kinds)
    assert base.tokenizer is not None  # an autoregressive bundle's manifest was checked
    return replace(base, graphs=graphs, decoders=decoders, tokenizer=moved(base.tokenizer))
