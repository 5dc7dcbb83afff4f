"""Lines for a small reader to learn from, with what the big one makes of them: a pack for training/distil.py.

    python -m training.teacher lines.zip --count 60000 --heard 25000

Made-up texts (training/texts.py) in every font here that draws plain Latin, worn like those of the rehearsal
pack; the more of Debian's font packages are installed, the better. Of the first lines of the pack the
teacher, the base recogniser, says at each of its steps which characters it may be.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from fontTools.ttLib import TTFont, TTLibError
from numpy.typing import NDArray
from PIL import ImageFont

from redpencil.pixels import Pixels
from training import packs
from training.frozen import Frozen
from training.recipes import ppocr
from training.render import DRAWN_PX, Grey, Wear, draw, worn
from training.texts import Lexicon, Rng

KEPT = 4  # classes of a step: the likeliest ones
KINDS = [kind for kind in packs.KINDS if kind.name not in ("chinese", "japanese")]
PRINTED = ("prose", "german", "french")
ASCII = frozenset(map(chr, range(33, 127)))
MARKS = "“”‘’‚„—–…€•«»‹›′″™"

Classes = NDArray[np.uint16]
Shares = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Lesson:
    """A line as it is stored, what is written on it, and what the teacher says of it.

    `classes` and `shares` [T,KEPT], likeliest first: 0 is the blank, i+1 the i-th character of the
    pack's alphabet. Without a step where the teacher was not asked.
    """

    data: bytes
    text: str
    classes: Classes
    shares: Shares

    @property
    def image(self) -> Pixels:
        grey = cv2.imdecode(np.frombuffer(self.data, np.uint8), cv2.IMREAD_GRAYSCALE)
        return np.repeat(np.asarray(grey, np.uint8)[:, :, None], 3, axis=2)


class Teacher:
    """The base recogniser, asked for the characters of Latin print alone."""

    def __init__(self) -> None:
        self.model = ppocr.build(None, []).eval()
        self.frozen = Frozen(self.model)
        known = self.model.alphabet
        self.alphabet = tuple(c for c in known if ord(c) < 0x250 or c in MARKS)
        self.columns = torch.tensor([0, *(known.index(c) + 1 for c in self.alphabet)])

    def says(self, image: Pixels) -> tuple[Classes, Shares]:
        """The likeliest classes of every step of a line, and how likely they are."""
        with torch.inference_mode():
            read = self.model.neck(self.frozen.of(image)[None], None)
            best = self.model.head(read, self.columns)[0].softmax(-1).topk(KEPT)
        return best.indices.numpy().astype(np.uint16), best.values.numpy().astype(np.float16)


def lessons(teacher: Teacher, count: int, heard: int, seed: int) -> Iterator[Lesson]:
    """Rendered lines, the teacher asked about the first `heard` of them."""
    rng, fonts, lexicon = np.random.default_rng(seed), installed(), packs.lexicon()
    spelled = frozenset(teacher.alphabet)
    nothing = np.zeros((0, KEPT), np.uint16), np.zeros((0, KEPT), np.float16)
    for number in range(count):
        text, line = _line(rng, fonts, lexicon, spelled)
        said = teacher.says(np.repeat(line[:, :, None], 3, axis=2)) if number < heard else nothing
        yield Lesson(packs.encoded(line), text, *said)


def _line(
    rng: Rng, fonts: Sequence[tuple[Path, frozenset[str]]], lexicon: Lexicon, spelled: frozenset[str]
) -> tuple[str, Grey]:
    shares = np.array([kind.share["rehearsal"] for kind in KINDS])
    kind = KINDS[int(rng.choice(len(KINDS), p=shares / shares.sum()))]
    while True:
        file, drawable = fonts[int(rng.integers(len(fonts)))]
        text = kind.write(rng, lexicon)
        if set(text) <= drawable & spelled:
            break
    tracking = float(rng.normal(0, 3)) if rng.random() < 0.2 else 0.0
    drawn = draw(text, _opened(file), tracking)
    return text, worn(drawn, _wear(rng, kind), rng)


def _wear(rng: Rng, kind: packs.LineKind) -> Wear:
    """As in the rehearsal pack, and for prose also as letterpress prints it: ink that ran, no grey."""
    wear = packs.wear(rng, kind.heights)
    if kind.name not in PRINTED or rng.random() < 0.5:
        return wear
    return replace(wear, binary=bool(rng.random() < 0.5), spread=int(rng.choice([0, 2, 3, 4])))


def installed() -> list[tuple[Path, frozenset[str]]]:
    """Every font that draws all of ASCII, with all that it draws."""
    found = []
    for file in sorted(Path("/usr/share/fonts").rglob("*.[ot]tf")):
        try:
            drawn = frozenset(map(chr, TTFont(file, lazy=True).getBestCmap() or ()))
        except TTLibError:
            continue  # no font after all
        if drawn >= ASCII:
            found.append((file, drawn | {" "}))
    if not found:
        raise FileNotFoundError("no font in /usr/share/fonts: install some of Debian's fonts-* packages")
    return found


@lru_cache(256)
def _opened(file: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), DRAWN_PX, layout_engine=ImageFont.Layout.BASIC)


def write(path: Path, alphabet: Sequence[str], made: Iterator[Lesson]) -> None:
    """One zip: an image a line, the texts, the alphabet, and the teacher's words in one array."""
    written, classes, shares = [], [], []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as pack:
        for number, lesson in enumerate(made):
            pack.writestr(f"{number:06}.webp", lesson.data)
            written.append(lesson.text)
            classes.append(lesson.classes)
            shares.append(lesson.shares)
        said, ends = io.BytesIO(), np.cumsum([len(c) for c in classes])
        np.savez(said, ends=ends, classes=np.concatenate(classes), shares=np.concatenate(shares))
        pack.writestr("said.npz", said.getvalue())
        pack.writestr("texts.json", json.dumps({"alphabet": list(alphabet), "texts": written}))


def load(path: Path) -> tuple[tuple[str, ...], list[Lesson]]:
    """The alphabet and the lessons of such a pack."""
    with zipfile.ZipFile(path) as pack:
        told = json.loads(pack.read("texts.json"))
        said = np.load(io.BytesIO(pack.read("said.npz")))
        classes, shares = (np.split(said[name], said["ends"][:-1]) for name in ("classes", "shares"))
        images = [pack.read(f"{number:06}.webp") for number in range(len(told["texts"]))]
    rows = zip(images, told["texts"], classes, shares, strict=True)
    return tuple(told["alphabet"]), [Lesson(*row) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.teacher", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=60_000)
    parser.add_argument("--heard", type=int, default=25_000, help="lines that the teacher is asked about")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    teacher = Teacher()
    write(args.file, teacher.alphabet, lessons(teacher, args.count, args.heard, args.seed))


if __name__ == "__main__":
    main()
