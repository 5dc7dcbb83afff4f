"""Flickr8k and Flickr30k as they are published, with the faults that their files are known for."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from redpencil.errors import BadInput
from redpencil.samples import Sample, name_of, rows, said, there

PLACES = ("Images", "images", "flickr30k_images", "Flicker8k_Dataset", "Flickr8k_Dataset", ".")
LISTS = (("trainImages", "train"), ("devImages", "dev"), ("testImages", "test"))
JOINED = re.compile(r"\s*\d+\s{2,}(?=\S)")
"""Where results.csv of Flickr30k lacks a bar: `2199200615.jpg| 4   A dog runs across the grass .`"""
GONE = "2258277193_586949ec62.jpg.1"
"""Flickr8k.token.txt has five captions of it, and no copy of the set the image."""


def tokens_in(folder: Path) -> list[Path]:
    """The files of captions with tabs, but for those whose words are lemmas: the same captions again."""
    found = (file for pattern in ("*.token", "*.token.txt") for file in folder.glob(pattern))
    return sorted(file for file in found if ".lemma." not in file.name)


def table(folder: Path, file: Path) -> Iterator[Sample]:
    """captions.txt of Flickr8k (comma) and results.csv of Flickr30k (bar)."""
    cells_of, parts = _barred if file.suffix == ".csv" else _comma, _parts(folder)
    for number, row in enumerate(rows(file), 1):
        where = f"{file}, line {number}"
        cells = cells_of(row, where) if row.strip() else None
        if cells and not (number == 1 and _heads(cells[0])):
            yield _sample(folder, *cells, where, parts)


def tokens(folder: Path, file: Path) -> Iterator[Sample]:
    """Flickr8k.token.txt and results_20130124.token: image, number and caption, with # and a tab between."""
    parts = _parts(folder)
    for number, row in enumerate(rows(file), 1):
        name, tab, text = row.partition("\t")
        where = f"{file}, line {number}"
        if not tab:
            raise BadInput(f"{where}: no tab between the image and its caption")
        name = name.partition("#")[0]
        if name != GONE:
            yield _sample(folder, name, text, where, parts)


def _sample(folder: Path, name: str, text: str, where: str, parts: dict[str, str]) -> Sample:
    """Where lists say which images are held out, all others are learned from."""
    name = name_of(name, where).strip()
    split = parts.get(name, "train") if parts else ""
    return Sample(_image(folder, name), (said(text, where),), split, "", where)


def _heads(name: str) -> bool:
    """Whether this is a word above the names of images, which have an ending."""
    return bool(name.strip()) and not Path(name.strip()).suffix


def _comma(row: str, where: str) -> tuple[str, str]:
    """Commas within a caption need no quotation marks around it."""
    if len(row) > csv.field_size_limit():
        raise BadInput(f"{where}: this is no caption, it has {len(row):,} characters")
    try:
        [(name, *texts)] = csv.reader([row], strict=True)
    except csv.Error as error:
        raise BadInput(
            f"{where}: {error}; a caption that begins with a quotation mark ends with one, on the same line, "
            "and has those within doubled"
        ) from error
    if not texts:
        raise BadInput(f"{where}: an image and a caption are wanted, with a comma between")
    return name, ",".join(texts)


def _barred(row: str, where: str) -> tuple[str, str]:
    cells = row.split("|")
    if len(cells) == 2 and (number := JOINED.match(cells[1])):
        cells[1:] = [number[0], cells[1][number.end() :]]
    if len(cells) != 3:
        raise BadInput(
            f"{where}: image, number and caption are wanted, with one | between, not {len(cells)} cells"
        )
    return cells[0], cells[2]


def _image(folder: Path, name: str) -> Path:
    found = next((folder / p / name for p in PLACES if there(folder / p / name)), None)
    return found or folder / "images" / name


def _parts(folder: Path) -> dict[str, str]:
    """The parts of Flickr8k's images by its own lists, such as Flickr_8k.testImages.txt; empty without."""
    found: dict[str, str] = {}
    for name, split in LISTS:
        for file in sorted(folder.glob(f"*.{name}.txt")):
            for number, row in enumerate(rows(file), 1):
                image = row.strip()
                if image and found.setdefault(image, split) != split:
                    raise BadInput(f"{file}, line {number}: {image} is one of the {found[image]} images too")
    return found
