"""Commands that bring in what others made: data sets with their truth, and pre-trained models."""

from __future__ import annotations

import json as jsonlib
import mimetypes
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track

from redpencil import datasets
from redpencil.errors import BadInput, RedpencilError
from redpencil.samples import Sample
from redpencil.settings import Settings
from redpencil.snapshot import side_of
from redpencil.types import Task
from services import show
from services.cli_options import AsJson, in_words
from services.client import Client

AT_ONCE = 500  # corrections in one import


@in_words
def dataset(
    folder: Annotated[Path, typer.Argument(help="folder: COCO, Flickr, i2t, captions.jsonl, lines.tsv")],
    limit: Annotated[int, typer.Option(help="so many images at most; 0: all")] = 0,
    json: AsJson = False,
) -> None:
    """Bring in a data set: its images, and their texts as corrections typed unseen.

    Images of a validation or test part are held out for life; one that has been here before and
    stands on the other side is refused. Said again it replaces what it said before.
    Then: redpencil retrain --model caption

    Example: redpencil dataset coco2017 --limit 5000
    """
    found = datasets.read(folder, max(limit, 0))
    api, left, untaken, told = Client(Settings()), list[str](), list[str](), list[int]()
    shown = track(found.samples, f"{found.name}: images", disable=json, console=show.out)
    for lines in _parts(_sent(api, found, shown, left)):
        answer = api.add_corrections(b"\n".join(line for line, _ in lines))
        untaken += [f"{lines[r['line'] - 1][1]}: {r['reason']}" for r in answer["refused"]]
        told.append(answer["accepted"])
    refused = left + untaken
    said = {
        "images": len(found.samples) - len(left),
        "task": found.task.value,
        "accepted": sum(told),
        "refused": refused,
    }
    if json:
        return show.as_json(said)
    show.out.print(f"{said['images']} images, {said['accepted']} texts kept", markup=False)
    for reason in refused[:10]:
        show.out.print(f"refused: {reason}", markup=False)
    if more := refused[10:]:
        show.out.print(f"... and {len(more)} more; --json tells all", markup=False)


def _sent(
    api: Client, found: datasets.Dataset, samples: Iterable[Sample], left: list[str]
) -> Iterator[tuple[bytes, str]]:
    """Make every image known; its texts, and where the set says them. One that cannot be taken is left."""
    for sample in samples:
        try:
            image = _known(api, sample, found)
        except BadInput as error:
            left.append(f"{sample.image}: {error}")
        else:
            yield from ((line, sample.where) for line in _lines(image, sample, found))


def _known(api: Client, sample: Sample, found: datasets.Dataset) -> str:
    """The image's sha256; BadInput where it stands for life on another side than its part of the set."""
    kind = mimetypes.guess_type(sample.image.name)[0] or "application/octet-stream"
    wanted = sample.group_in(found.name)
    image, kept = api.add_image(sample.image.read_bytes(), kind, wanted)
    side = side_of(kept)
    if sample.split and side is not side_of(wanted):
        raise BadInput(
            f"it is one of the set's {sample.split} images, but has been here before, in the group {kept!r}, "
            f"and so stands on the {side.value} side for life; its texts are left out"
        )
    return image


def _lines(image: str, sample: Sample, found: datasets.Dataset) -> Iterator[bytes]:
    for number, text in enumerate(sample.texts, 1):
        line = {"image": image, "task": found.task.value, "text": text, "kind": "blind"}
        author = found.name if found.task is Task.OCR else f"{found.name}, reference {number}"
        yield jsonlib.dumps(line | {"author": author}, ensure_ascii=False).encode()


def _parts(lines: Iterator[tuple[bytes, str]]) -> Iterator[list[tuple[bytes, str]]]:
    return iter(lambda: list(islice(lines, AT_ONCE)), [])


@in_words
def import_(
    recipe: Annotated[str, typer.Argument(help="model family: clip_prefix, qwen_vl_lora ...")],
    vision: Annotated[str | None, typer.Option(help="folder or hub name of the vision model")] = None,
    language: Annotated[str | None, typer.Option(help="folder or hub name of the language model")] = None,
    model: Annotated[str | None, typer.Option(help="registered model; default: by the family")] = None,
    set: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, a parameter of the recipe")] = None,
) -> None:
    """Make a version out of pre-trained weights, before any correction.

    The weights come from a local folder, or by name from the hub where there is a network.

    Example: redpencil import clip_prefix --vision models/clip --language models/qwen3
    """
    named: dict[str, Any] = {"vision": vision, "language": language}
    chosen = [f"{name}={value}" for name, value in named.items() if value is not None] + (set or [])
    command = [sys.executable, "-m", "training.imported", recipe, *chosen]
    command += ["--model", model] if model else []
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RedpencilError(done.stderr.strip().rpartition("\n")[2] or f"{recipe} could not be imported")
