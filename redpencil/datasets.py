"""Folders of images with texts, in the layouts in which such sets are published.

Known are COCO captions, Flickr8k and Flickr30k, image-to-text folders with one JSON per split, and
Redpencil's own: `captions.jsonl`, or `lines.tsv` for lines of text. Every complaint names file and line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redpencil.errors import BadInput
from redpencil.snapshot import side_of
from redpencil.text import label
from redpencil.types import Split, Task

HELD = ("val", "valid", "validation", "dev", "eval", "evaluation", "test", "testing", "holdout", "restval")
LEARNED = ("train", "training")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its texts; `split` as the set says it, `group` the document where it names one."""

    image: Path
    texts: tuple[str, ...]
    split: str = ""
    group: str = ""

    def group_in(self, dataset: str) -> str:
        """The group under which it is kept, written as the services keep it.

        Of a set that is split, a name that stands on the split's side for life.
        """
        parts = (dataset, self.split, self.image.stem)
        name = label(self.group or "/".join(part for part in parts if part), f"the group of {self.image}")
        if not self.split:
            return name
        side = Split.HOLDOUT if self.split in HELD else Split.TRAIN
        return next(found for n in range(200) if side_of(found := name + "~" * n) is side)


@dataclass(frozen=True)
class Dataset:
    """What a folder holds, and what it is for."""

    name: str
    task: Task
    samples: list[Sample]


def read(folder: Path, limit: int = 0) -> Dataset:
    """All samples of a folder, or the first `limit` images; BadInput says what is wrong with it."""
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}")
    for is_there, reader in LAYOUTS:
        if files := is_there(folder):
            task = Task.OCR if reader is _lines else Task.CAPTION
            samples = list(_merged(s for file in files for s in reader(folder, file)))[: limit or None]
            return Dataset(folder.resolve().name, task, _divided(_whole(folder, samples)))
    raise BadInput(
        f"{folder} is no data set that is known here: it has no captions.jsonl, lines.tsv, "
        "annotations/captions_*.json (COCO), train/train.json, or captions.txt, results.csv, *.token (Flickr)"
    )


def _merged(samples: Iterator[Sample]) -> Iterator[Sample]:
    """One sample per image, with all its texts."""
    by_image: dict[Path, Sample] = {}
    for s in samples:
        known = by_image.get(s.image)
        texts = tuple(dict.fromkeys((*(known.texts if known else ()), *s.texts)))
        by_image[s.image] = Sample(s.image, texts, s.split, s.group)
    yield from by_image.values()


def _whole(folder: Path, samples: list[Sample]) -> list[Sample]:
    if not samples:
        raise BadInput(f"{folder} names no image")
    if missing := [s.image for s in samples if not s.image.is_file()]:
        raise BadInput(f"{len(missing)} of {len(samples)} images of {folder} are missing, first {missing[0]}")
    return samples


def _divided(samples: list[Sample]) -> list[Sample]:
    """Where no part is held out, the set's word on its parts says nothing: then hashes divide it."""
    held = any(s.split in HELD for s in samples)
    return samples if held else [replace(s, split="") for s in samples]


# --- layouts --------------------------------------------------------------------------------------


def _jsonl(folder: Path, file: Path) -> Iterator[Sample]:
    for number, row in enumerate(_rows(file), 1):
        if row.strip():
            yield _sample(_parsed(row, f"{file}, line {number}"), folder, f"{file}, line {number}", "")


def _lines(folder: Path, file: Path) -> Iterator[Sample]:
    for number, row in enumerate(_rows(file)[1:], 2):
        cells, where = row.split("\t"), f"{file}, line {number}"
        if len(cells) != 3:
            raise BadInput(f"{where}: file, document and text are wanted, with tabs between")
        _said(cells[2], where)  # a line is kept as it is printed, with all its kinds of space
        yield Sample(folder / cells[0], (cells[2].strip(),), "", cells[1])


def _coco(folder: Path, file: Path) -> Iterator[Sample]:
    content = _parsed(_text(file), str(file))
    split = "val" if "val" in file.stem else "train"
    try:
        names = {i["id"]: i["file_name"] for i in content["images"]}
        said = [(names[a["image_id"]], a["caption"]) for a in content["annotations"]]
    except (KeyError, TypeError) as error:
        raise BadInput(f"{file} is not COCO's caption format: {error!r} is missing in it") from error
    year = "".join(c for c in file.stem if c.isdigit())
    places = (folder / f"{split}{year}", folder / split, folder / "images" / split, folder / "images", folder)
    place = next((p for p in places if said and (p / said[0][0]).is_file()), places[0])
    for name, text in said:
        yield Sample(place / name, (_said(text, f"{file}, image {name}"),), split)


def _per_split(folder: Path, file: Path) -> Iterator[Sample]:
    content, split = _parsed(_text(file), str(file)), file.stem
    if isinstance(content, dict) and "images" not in content:
        content = [{"image": name, "text": text} for name, text in content.items()]
    if isinstance(content, dict):
        content = content["images"]
    place = next((p for p in (file.parent / "images", folder / "images") if p.is_dir()), file.parent)
    for number, item in enumerate(content):
        yield _sample(item, place, f"{file}, entry {number}", split)


def _flickr_csv(folder: Path, file: Path) -> Iterator[Sample]:
    """captions.txt of Flickr8k (comma) and results.csv of Flickr30k (bar)."""
    bar = "|" if file.suffix == ".csv" else ","
    for number, cells in enumerate(csv.reader(io.StringIO(_text(file), newline=""), delimiter=bar), 1):
        if number == 1 or not cells:
            continue
        if len(cells) < 2:
            raise BadInput(f"{file}, line {number}: an image and a caption are wanted")
        text = cells[-1] if bar == "|" else ",".join(cells[1:])
        yield Sample(_flickr_image(folder, cells[0]), (_said(text, f"{file}, line {number}"),))


def _flickr_token(folder: Path, file: Path) -> Iterator[Sample]:
    for number, row in enumerate(_rows(file), 1):
        name, tab, text = row.partition("\t")
        if not tab:
            raise BadInput(f"{file}, line {number}: no tab between the image and its caption")
        yield Sample(_flickr_image(folder, name.partition("#")[0]), (_said(text, f"{file}, line {number}"),))


def _flickr_image(folder: Path, name: str) -> Path:
    places = ("Images", "images", "flickr30k_images", "Flicker8k_Dataset", "Flickr8k_Dataset", ".")
    found = next((folder / p / name.strip() for p in places if (folder / p / name.strip()).is_file()), None)
    return found or folder / "images" / name.strip()


def _sample(item: Any, folder: Path, where: str, split: str) -> Sample:
    """An object that names an image and its text or texts, by whatever words are common."""
    if not isinstance(item, dict):
        raise BadInput(f"{where}: an object is wanted, not {str(item)[:60]!r}")
    image = _first(item, ("image", "file_name", "filename", "file", "image_path", "path"))
    texts = _first(item, ("captions", "caption", "text", "texts", "label", "sentences"))
    if image is None or texts is None:
        raise BadInput(f"{where}: an image and a caption (or text) are wanted, it has {sorted(item)}")
    listed = texts if isinstance(texts, list) else [texts]
    if not listed:
        raise BadInput(f"{where}: the image {image} has no caption")
    said = tuple(_said(t, where) for t in listed)
    return Sample(
        folder / str(image), said, _part(item.get("split") or split, where), str(item.get("group") or "")
    )


def _part(split: Any, where: str) -> str:
    """The part of a set by its usual name; a year may stand behind it."""
    name = str(split).strip().lower().rstrip("0123456789_-")
    if name and name not in (*HELD, *LEARNED):
        known = ", ".join((*LEARNED, *HELD))
        raise BadInput(
            f"{where}: the split {split!r} is neither to learn from nor to judge by; known are {known}"
        )
    return name


def _rows(file: Path) -> list[str]:
    """The lines of a file, which end where its lines end and not at every separator that Unicode knows."""
    return _text(file).removesuffix("\n").split("\n")


def _text(file: Path) -> str:
    """What a file says; newlines of any system have become \\n."""
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8 (byte {error.start} is not); write it anew in UTF-8") from error


def _first(item: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((item[n] for n in names if item.get(n) is not None), None)


def _said(text: Any, where: str) -> str:
    said = text.get("raw") if isinstance(text, dict) else text
    if not isinstance(said, str) or not said.strip():
        raise BadInput(f"{where}: the caption is empty or no text")
    return " ".join(said.split())


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInput(f"{where}: this is not JSON: {error}") from error


def _named(*patterns: str) -> Callable[[Path], list[Path]]:
    return lambda folder: sorted(file for pattern in patterns for file in folder.glob(pattern))


LAYOUTS: tuple[tuple[Callable[[Path], list[Path]], Callable[[Path, Path], Iterator[Sample]]], ...] = (
    (_named("captions.jsonl"), _jsonl),
    (_named("lines.tsv"), _lines),
    (_named("annotations/captions_*.json"), _coco),
    (_named("train/train.json", "val/val.json", "test/test.json"), _per_split),
    (_named("captions.txt", "results.csv"), _flickr_csv),
    (_named("*.token", "*.token.txt"), _flickr_token),
)
