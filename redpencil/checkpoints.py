"""Checkpoints that outlive their run: those of every so many-th epoch, until a person deletes them.

For each there is NAME.pt and NAME.json, which says what it is: recipe, run, parent, hyper-parameters, epoch,
step, and what was measured.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from redpencil.errors import NotFound
from redpencil.types import Run

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

    from redpencil.settings import Settings

ASKED = "checkpoint"
"""The trigger of a run that makes a version of one, and its parameter that says which, as RUN/EPOCH."""


def folder(settings: Settings, run: str) -> tuple[FileSystem, str]:
    """Where those of a run are: in the home, or in the store that checkpoints go to."""
    from pyarrow.fs import FileSystem

    root = settings.storage if "://" in settings.storage else str(settings.home.absolute())
    files, path = FileSystem.from_uri(root)
    return files, f"{path}/checkpoints/{run}"


def file(epoch: int) -> str:
    return f"epoch-{epoch:04}.pt"


def kept(settings: Settings, run: str) -> list[dict[str, Any]]:
    """What is said of each of a run's, by epoch; empty where there is none."""
    from pyarrow.fs import FileSelector

    files, path = folder(settings, run)
    names = {info.path for info in files.get_file_info(FileSelector(path, allow_not_found=True))}
    told = sorted(n for n in names if n.endswith(".json") and n.removesuffix("json") + "pt" in names)
    return [_said(files, name) for name in told]


def _said(files: FileSystem, name: str) -> dict[str, Any]:
    with files.open_input_stream(name) as stream:
        said: dict[str, Any] = json.loads(stream.read())
    return said


def to_version(settings: Settings, run: Run, epoch: int) -> dict[str, Any]:
    """The parameters of a run that makes a version of one, with all else as the run had it; NotFound
    where it was not kept."""
    there = [said["epoch"] for said in kept(settings, run.id)]
    if epoch in there:
        return {**run.params, ASKED: f"{run.id}/{epoch}"}
    listed = f"there are those of epochs {', '.join(map(str, there))}" if there else "it kept none"
    raise NotFound(
        f"run {run.id} has no checkpoint of epoch {epoch}; {listed} (a run keeps every so many-th with "
        "--param keep_every=NUMBER)"
    )


def asked(run: Run) -> tuple[str, int] | None:
    """The run and the epoch whose checkpoint a run makes a version of; None where it trains by itself."""
    of, _, epoch = str(run.params.get(ASKED, "")).partition("/")
    return (of, int(epoch)) if run.trigger == ASKED else None
