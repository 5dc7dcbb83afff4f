"""Where a loop runs: which worker of how many it is, what it computes on, where its checkpoints go."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import ray.train
import ray.train.torch
import torch
from pyarrow.fs import FileSystem, FileType

from training.job import BEST, load

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


class Worker:
    """One of Ray Train's workers: Ray Train keeps their checkpoints, and starts them again where one died."""

    def __init__(self) -> None:
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
            return ray.train.report(metrics)
        folder = tempfile.mkdtemp(prefix="checkpoint-")
        torch.save(state(), Path(folder, FILE))
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

    def __init__(self, files: FileSystem, folder: str) -> None:
        self.files, self.folder = files, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def latest(self) -> State | None:
        if self.files.get_file_info(f"{self.folder}/{LATEST}").type is FileType.NotFound:
            return None
        with self.files.open_input_file(f"{self.folder}/{LATEST}") as file:
            return load(BytesIO(file.read()))

    def keep(self, state: Callable[[], State], score: float, epoch: int, best: bool) -> None:
        content = BytesIO()
        torch.save(state(), content)
        self.files.create_dir(self.folder)
        for name in [BEST, LATEST] if best else [LATEST]:
            part = f"{self.folder}/{name}.part"
            with self.files.open_output_stream(part) as file:
                file.write(content.getbuffer())
            self.files.move(part, f"{self.folder}/{name}")
