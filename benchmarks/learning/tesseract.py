"""Tesseract, as a peer that does not learn: Debian's tesseract-ocr and its language packages."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2

from training.crops import Line

LANGUAGES = {
    "fraktur_archiscribe": "frk",
    "poilus_handwriting": "fra",
    "kannada_print": "kan",
}
OTHERWISE = "eng"


def missing(name: str) -> str | None:
    """Why Tesseract cannot read a set, in words; None where it can."""
    if not shutil.which("tesseract"):
        return "tesseract is not installed (apt-get install tesseract-ocr)"
    listed = subprocess.run(["tesseract", "--list-langs"], capture_output=True, text=True, check=True).stdout
    language = LANGUAGES.get(name, OTHERWISE)
    return None if language in listed.split() else f"apt-get install tesseract-ocr-{language}"


def read(name: str, lines: Sequence[Line], threads: int) -> list[str]:
    """What it reads, each image as a single line (page segmentation mode 7)."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda line: _one(line, LANGUAGES.get(name, OTHERWISE)), lines))


def _one(line: Line, language: str) -> str:
    _, png = cv2.imencode(".png", cv2.cvtColor(line.image, cv2.COLOR_RGB2BGR))
    command = ["tesseract", "stdin", "stdout", "--psm", "7", "-l", language]
    said = subprocess.run(
        command, input=png.tobytes(), capture_output=True, check=True, env={"OMP_THREAD_LIMIT": "1"}
    )
    return said.stdout.decode(errors="replace").strip()
