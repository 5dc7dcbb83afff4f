"""Folders of images with texts, in the layouts in which such sets are published.

Known are COCO captions, Flickr8k and Flickr30k, image-to-text folders with one JSON per split, and
Redpencil's own: `captions.jsonl`, or `lines.tsv` for lines of text. Every complaint names file and line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redpencil import flickr
from redpencil.errors import BadInput
from redpencil.samples import HELD, Sample, name_of, parsed, rows, said, sample, text_of, there
from redpencil.types import Task

HEADINGS = ["file", "document", "text"]
"""Above the rows of lines.tsv."""


@dataclass(frozen=True)
class Dataset:
    """What a folder holds, and what it is for."""

    name: str
    task: Task
    samples: list[Sample]


def read(folder: Path, limit: int = 0) -> Dataset:
    """All samples of a folder, or `limit` images of it; BadInput says what is wrong with it."""
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}")
    for is_there, reader in LAYOUTS:
        if files := is_there(folder):
            task = Task.OCR if reader is _lines else Task.CAPTION
            samples = _divided(list(_merged(s for file in files for s in reader(folder, file))))
            return Dataset(folder.resolve().name, task, _whole(folder, _limited(samples, limit)))
    raise BadInput(
        f"{folder} is no data set that is known here: it has no captions.jsonl, lines.tsv, "
        "annotations/captions_*.json (COCO), train/train.json, or captions.txt, results.csv, *.token (Flickr)"
    )


def _merged(samples: Iterator[Sample]) -> Iterator[Sample]:
    """One sample per image, with all its texts."""
    by_image: dict[Path, Sample] = {}
    for s in samples:
        known = by_image.get(s.image, s)
        by_image[s.image] = replace(s, texts=tuple(dict.fromkeys(known.texts + s.texts)), where=known.where)
    yield from by_image.values()


def _divided(samples: list[Sample]) -> list[Sample]:
    """Where no part is held out, the set's word on its parts says nothing: then hashes divide it."""
    held = any(s.split in HELD for s in samples)
    return samples if held else [replace(s, split="") for s in samples]


def _limited(samples: list[Sample], limit: int) -> list[Sample]:
    """The first images of every part, as many as its share of the set, and of each part one at least.

    Only where there are more parts than images are wanted are the last parts left out.
    """
    counts, met, places = Counter(s.split for s in samples), Counter[str](), list[float]()
    for s in samples:
        places.append(met[s.split] / counts[s.split])
        met[s.split] += 1
    first = sorted(range(len(samples)), key=places.__getitem__)[: limit or None]
    return [samples[n] for n in sorted(first)]


def _whole(folder: Path, samples: list[Sample]) -> list[Sample]:
    if not samples:
        raise BadInput(f"{folder} names no image")
    if missing := [s for s in samples if not there(s.image)]:
        first = missing[0]
        raise BadInput(
            f"{len(missing)} of {len(samples)} images of {folder} are missing, first {first.image}, which is "
            f"named in {first.where}: bring it there, or take what names it out"
        )
    return samples


# --- layouts --------------------------------------------------------------------------------------


def _jsonl(folder: Path, file: Path) -> Iterator[Sample]:
    for number, row in enumerate(rows(file), 1):
        if row.strip():
            where = f"{file}, line {number}"
            yield sample(parsed(row, where), folder, where, "")


def _lines(folder: Path, file: Path) -> Iterator[Sample]:
    head, *lines = rows(file)
    if [cell.strip().lower() for cell in head.split("\t")] != HEADINGS:
        raise BadInput(f"{file}, line 1: headings are wanted, {', '.join(HEADINGS)}, with tabs between")
    for number, row in enumerate(lines, 2):
        cells, where = row.split("\t"), f"{file}, line {number}"
        if len(cells) != 3:
            raise BadInput(f"{where}: file, document and text are wanted, with tabs between")
        said(cells[2], where)  # a line is kept as it is printed, with all its kinds of space
        yield Sample(folder / name_of(cells[0], where), (cells[2].strip(),), "", cells[1], where)


def _coco(folder: Path, file: Path) -> Iterator[Sample]:
    images, annotations = _coco_lists(file)
    names, told = dict(_coco_names(images, file)), list[tuple[str, str, str]]()
    for number, annotation in enumerate(annotations):
        where = f"{file}, annotation {number}"
        image = _field(annotation, "image_id", where)
        if image not in names:
            raise BadInput(f"{file}: annotation {number} names image {image}, which is not among its images")
        told.append((names[image], said(_field(annotation, "caption", where), where), where))
    split = next((held for held in ("val", "test") if held in file.stem), "train")
    year = "".join(c for c in file.stem if c.isdigit())
    places = (folder / f"{split}{year}", folder / split, folder / "images" / split, folder / "images", folder)
    place = next((p for p in places if told and there(p / told[0][0])), places[0])
    for name, caption, where in told:
        yield Sample(place / name, (caption,), split, "", where)


def _coco_lists(file: Path) -> tuple[list[Any], list[Any]]:
    content = parsed(text_of(file), str(file))
    values = [content.get(n) for n in ("images", "annotations")] if isinstance(content, dict) else []
    found = [value for value in values if isinstance(value, list)]
    if len(found) < 2:
        raise BadInput(
            f"{file} is not COCO's caption format: an object is wanted with two lists, images and annotations"
        )
    return found[0], found[1]


def _coco_names(images: list[Any], file: Path) -> Iterator[tuple[Any, str]]:
    for number, image in enumerate(images):
        where = f"{file}, image {number} of its list"
        yield _field(image, "id", where), name_of(_field(image, "file_name", where), where)


def _field(item: Any, name: str, where: str) -> Any:
    """A field that COCO's format has: a number or a text."""
    value = item.get(name) if isinstance(item, dict) else None
    if not isinstance(value, int | str):
        raise BadInput(f"{where}: an object with {name} is wanted, as COCO's caption format has them")
    return value


def _per_split(folder: Path, file: Path) -> Iterator[Sample]:
    content, split = parsed(text_of(file), str(file)), file.stem
    if isinstance(content, dict) and "images" not in content:
        content = [{"image": name, "text": text} for name, text in content.items()]
    listed = content["images"] if isinstance(content, dict) else content
    if not isinstance(listed, list):
        raise BadInput(f"{file}: a list of objects with image and text is wanted, not {str(listed)[:60]!r}")
    place = next((p for p in (file.parent / "images", folder / "images") if p.is_dir()), file.parent)
    for number, item in enumerate(listed):
        yield sample(item, place, f"{file}, entry {number}", split)


def _named(*patterns: str) -> Callable[[Path], list[Path]]:
    return lambda folder: sorted(file for pattern in patterns for file in folder.glob(pattern))


LAYOUTS: tuple[tuple[Callable[[Path], list[Path]], Callable[[Path, Path], Iterator[Sample]]], ...] = (
    (_named("captions.jsonl"), _jsonl),
    (_named("lines.tsv"), _lines),
    (_named("annotations/captions_*.json"), _coco),
    (_named("train/train.json", "val/val.json", "test/test.json"), _per_split),
    (_named("captions.txt", "results.csv"), flickr.table),
    (flickr.tokens_in, flickr.tokens),
)
