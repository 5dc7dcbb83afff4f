"""Packs of lines with their text that come with Redpencil: the rehearsal, golden and primer sets.

A pack is a zip of image files, `lines.jsonl` (one {"file", "text", "kind"} per line) and `pack.json`
(how it was made). `training/render.py` makes them.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import cv2
import numpy as np

from redpencil.errors import Damaged
from redpencil.frames import Pixels

Name = Literal["golden", "rehearsal", "primer"]


@dataclass(frozen=True, slots=True)
class PackedLine:
    """One line image (H x W x 3, RGB) and what is written on it."""

    image: Pixels
    text: str


def load(name: Name, kind: str | None = None) -> list[PackedLine]:
    """Every line of a pack, or of one kind in it, in its order; the same on every machine."""
    with _open(name) as pack:
        chosen = [row for row in _listed(pack) if kind in (None, row["kind"])]
        return [PackedLine(_pixels(pack.read(row["file"]), row["file"]), row["text"]) for row in chosen]


def texts(name: Name) -> list[str]:
    """What is written on every line of a pack, in its order."""
    with _open(name) as pack:
        return [row["text"] for row in _listed(pack)]


def marks() -> dict[str, frozenset[str]]:
    """Of every kind in the primer, the letters and signs by which its script is known."""
    return {kind: frozenset(signs) for kind, signs in about("primer")["marks"].items()}


def about(name: Name) -> dict[str, Any]:
    """How the pack was made: seed, counts, fonts and their licences."""
    with _open(name) as pack:
        told: dict[str, Any] = json.loads(pack.read("pack.json"))
        return told


def _listed(pack: zipfile.ZipFile) -> list[dict[str, str]]:
    return [json.loads(row) for row in pack.read("lines.jsonl").decode().splitlines()]


def _open(name: Name) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO((resources.files("redpencil") / "data" / f"{name}.zip").read_bytes()))


def _pixels(data: bytes, file: str) -> Pixels:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise Damaged(f"{file} in the line pack cannot be decoded")
    return np.repeat(image[:, :, None], 3, axis=2).astype(np.uint8)
