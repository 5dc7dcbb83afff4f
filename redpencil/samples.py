"""An image with its texts as a data set names it, and what its files say; complaints name file and line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redpencil.errors import BadInput
from redpencil.snapshot import side_of
from redpencil.text import label
from redpencil.types import Split

HELD = ("val", "valid", "validation", "dev", "eval", "evaluation", "test", "testing", "holdout")
LEARNED = ("train", "training", "restval")  # so Karpathy calls what is left of COCO's validation images


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its texts; `split` as the set says it, `group` the document where it names one.

    `where` is the file and line, or entry, that names the image first.
    """

    image: Path
    texts: tuple[str, ...]
    split: str = ""
    group: str = ""
    where: str = ""

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


def sample(item: Any, folder: Path, where: str, split: str) -> Sample:
    """An object that names an image and its text or texts, by whatever words are common."""
    if not isinstance(item, dict):
        raise BadInput(f"{where}: an object is wanted, not {str(item)[:60]!r}")
    image = _first(item, ("image", "file_name", "filename", "file", "image_path", "path"))
    texts = _first(item, ("captions", "caption", "text", "texts", "label", "sentences"))
    if image is None or texts is None:
        raise BadInput(f"{where}: an image and a caption (or text) are wanted, it has {sorted(item)}")
    path, listed = folder / name_of(image, where), texts if isinstance(texts, list) else [texts]
    if not listed:
        raise BadInput(f"{where}: the image {image} has no caption")
    captions = tuple(said(t, where) for t in listed)
    return Sample(
        path, captions, part(item.get("split") or split, where), str(item.get("group") or ""), where
    )


def name_of(image: Any, where: str) -> str:
    """The name of an image's file, as a set gives it."""
    if not isinstance(image, str):
        raise BadInput(f"{where}: the name of an image's file is wanted, not {str(image)[:60]!r}")
    if not image.strip():
        raise BadInput(f"{where}: the name of the image is empty")
    return image


def said(text: Any, where: str) -> str:
    """A caption on one line."""
    caption = text.get("raw") if isinstance(text, dict) else text
    if not isinstance(caption, str) or not caption.strip():
        raise BadInput(f"{where}: the caption is empty or no text")
    return " ".join(caption.split())


def part(split: Any, where: str) -> str:
    """The part of a set by its usual name; a year may stand behind it."""
    name = str(split).strip().lower().rstrip("0123456789_-")
    if name and name not in (*HELD, *LEARNED):
        known = ", ".join((*LEARNED, *HELD))
        raise BadInput(
            f"{where}: the split {split!r} is neither to learn from nor to judge by; known are {known}"
        )
    return name


def there(image: Path) -> bool:
    """Whether it is a file; no file has a name that is too long for one."""
    try:
        return image.is_file()
    except OSError:
        return False


def rows(file: Path) -> list[str]:
    """The lines of a file, which end where its lines end and not at every separator that Unicode knows."""
    return text_of(file).removesuffix("\n").split("\n")


def text_of(file: Path) -> str:
    """What a file says; newlines of any system have become \\n."""
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8 (byte {error.start} is not); write it anew in UTF-8") from error
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error


def parsed(text: str, where: str) -> Any:
    """What a text says in JSON, all of whose characters are whole."""
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(error.object[error.start]):04X}"
        raise BadInput(
            f"{where}: half of a surrogate pair, {half}, is no character; write it whole"
        ) from error
    except ValueError as error:
        raise BadInput(f"{where}: this is not JSON: {error}") from error
    except RecursionError as error:
        raise BadInput(f"{where}: objects and lists are too deep within each other to be read") from error
    return value


def _first(item: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((item[n] for n in names if item.get(n) is not None), None)
