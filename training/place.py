"""Where a loop runs: which worker of how many it is, what it computes on, where its checkpoints go."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import ray.train
import ray.train.torch
import torch
from pyarrow.fs import FileSystem, FileType

from redpencil import checkpoints
from training.device import own_device
from training.job import BEST, described, load

State = dict[str, Any]
"""All that a run needs to go on: plain values and tensors."""

FILE = "state.pt"
"""The one file of a checkpoint of Ray Train's."""
LATEST = "latest.pt"


class Place(Protocol):
    """What a loop asks of its surroundings."""

    rank: int
    world: int
    device: torch.device

    def latest(self) -> State | None:
        """What the last attempt kept last, if there was one."""

    def keep(self, state: Callable[[], State], score: float, epoch: int, best: bool) -> None:
        """Keep a state from which the run can go on; the best one so far until the run is over."""


@dataclass(frozen=True)
class Kept:
    """Checkpoints of every so many-th epoch (0: none), which outlive their run, in a folder of their own.

    They leave out the optimiser, two thirds of a state, which only going on needs.
    """

    files: FileSystem
    folder: str
    every: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)

    def take(self, state: State) -> None:
        """Keep a state where it is its epoch's turn."""
        if self.every and state["epoch"] % self.every == 0:
            lasting = {name: value for name, value in state.items() if name != "optimiser"}
            put(self.files, f"{self.folder}/{checkpoints.file(state['epoch'])}", lasting, self.about)


def put(files: FileSystem, path: str, state: State, about: Mapping[str, Any]) -> None:
    """Write a state, and beside it a JSON file that says what it is, each replaced whole."""
    content = BytesIO()
    torch.save(state, content)
    said = str(PurePosixPath(path).with_suffix(".json"))
    files.create_dir(str(PurePosixPath(path).parent))
    for name, data in ((said, described(about, state["history"][-1])), (path, content.getbuffer())):
        with files.open_output_stream(f"{name}.part") as file:
            file.write(data)
        files.move(f"{name}.part", name)


class Worker:
    """One of Ray Train's workers: Ray Train keeps their checkpoints, and starts them again where one died."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()

    def latest(self) -> State | None:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as folder:
            return load(Path(folder, FILE))

    def keep(self, state: Callable[[], State], score: float, epoch: int, best: bool) -> None:
        metrics = {"score": score, "epoch": epoch}
        if self.rank:
            ray.train.report(metrics)
            return
        folder, now = tempfile.mkdtemp(prefix="checkpoint-"), state()
        self.kept.take(now)
        torch.save(now, Path(folder, FILE))
        ray.train.report(
            metrics,
            ray.train.Checkpoint.from_directory(folder),
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )


class Alone:
    """The run's own process (Ray Train's local mode, which starts no cluster and keeps nothing).

    The latest and the best state are files in the run's folder, each replaced whole.
    """

    rank, world = 0, 1

    def __init__(self, files: FileSystem, folder: str, kept: Kept | None = None) -> None:
        self.files, self.folder, self.kept = files, folder, kept or Kept(files, folder)
        self.device = own_device()

    def latest(self) -> State | None:
        if self.files.get_file_info(f"{self.folder}/{LATEST}").type is FileType.NotFound:
            return None
        with self.files.open_input_file(f"{self.folder}/{LATEST}") as file:
            return load(BytesIO(file.read()))

    def keep(self, state: Callable[[], State], score: float, epoch: int, best: bool) -> None:
        now = state()
        self.kept.take(now)
        for name in [BEST, LATEST] if best else [LATEST]:
            put(self.files, f"{self.folder}/{name}", now, self.kept.about)
