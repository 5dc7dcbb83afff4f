"""Draw lines of text as scans would show them.

python -m training.render packs            the rehearsal and golden packs (needs Debian fonts)
python -m training.render primer FONTS     the primer pack (needs more fonts, see training/primers.py)
python -m training.render demo FOLDER      a few documents in black letter (needs nothing)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from redpencil.pixels import Pixels
from training.texts import Lexicon, Rng, prose

Grey = Pixels  # H x W
DRAWN_PX = 64  # font size before scaling down
DEMO_TRACKING = -5.0  # px: set so tight and inked so heavily that the base reads it badly
FRAKTUR_GAPS = {"C": "\u212d", "H": "\u210c", "I": "\u2111", "R": "\u211c", "Z": "\u2128"}


@dataclass(frozen=True)
class DemoLine:
    """A rendered line: its document, what is written, and its pixels (H x W, grey)."""

    document: str
    text: str
    image: Grey


@dataclass(frozen=True)
class Wear:
    """How a document looks: height of its lines, and how much of each damage."""

    height: int
    ink: int = 20
    paper: int = 240
    tilt: float = 0.0  # px per px
    blur: float = 0.0  # sigma at 40 px height
    noise: float = 0.0
    shade: float = 0.0  # grey levels from one end to the other
    quality: int = 95  # of JPEG
    binary: bool = False
    spread: int = 0  # px by which ink runs before scaling down
    squeeze: float = 1.0  # of the width


def draw(text: str, font: ImageFont.FreeTypeFont, tracking: float = 0.0) -> Grey:
    """Black text on white with a small margin; `tracking` px are added behind every character."""
    pad = DRAWN_PX // 6
    ascent, descent = font.getmetrics()
    _, top, _, bottom = font.getbbox(text)
    top, bottom = min(top, ascent // 4), max(bottom, ascent + descent // 2)
    width = font.getlength(text) + tracking * len(text)
    canvas = Image.new("L", (round(width) + 2 * pad, round(bottom - top) + 2 * pad), 255)
    pen, x = ImageDraw.Draw(canvas), float(pad)
    for part in text if tracking else [text]:
        pen.text((x, pad - top), part, font=font, fill=0)
        x += font.getlength(part) + tracking
    return np.asarray(canvas)


def worn(line: Grey, wear: Wear, rng: Rng) -> Grey:
    """The drawn line after printing, ageing and scanning."""
    if wear.spread:
        line = cv2.erode(line, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wear.spread, wear.spread)))
    height, width = line.shape
    turn = np.array([[1, 0, 0], [wear.tilt, 1, -wear.tilt * width / 2]])
    line = cv2.warpAffine(line, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    size = (max(8, round(wear.squeeze * width * wear.height / height)), wear.height)
    image = cv2.resize(line, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    if wear.blur:
        image = cv2.GaussianBlur(image, (0, 0), max(0.15, wear.blur * wear.height / 40))
    image = wear.ink + image / 255 * (wear.paper - wear.ink)
    image += np.linspace(-wear.shade, wear.shade, size[0])[None] / 2 + rng.normal(
        0, wear.noise + 1e-6, image.shape
    )
    clipped: Grey = np.clip(image, 0, 255).astype(np.uint8)
    if wear.binary:
        clipped = cv2.threshold(clipped, (wear.ink + wear.paper) // 2, 255, cv2.THRESH_BINARY)[1].astype(
            np.uint8
        )
    _, data = cv2.imencode(".jpg", clipped, [cv2.IMWRITE_JPEG_QUALITY, wear.quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def black_letter(text: str) -> str:
    """Plain Latin letters as Mathematical Fraktur, which STIX draws as black letter."""
    return "".join(_fraktur(c) for c in text)


def _fraktur(char: str) -> str:
    if "a" <= char <= "z":
        return chr(0x1D51E + ord(char) - ord("a"))
    return FRAKTUR_GAPS.get(char, chr(0x1D504 + ord(char) - ord("A")) if "A" <= char <= "Z" else char)


def demo_font() -> ImageFont.FreeTypeFont:
    """STIX out of matplotlib's wheel: plain letters and mathematical alphabets."""
    file = resources.files("matplotlib") / "mpl-data" / "fonts" / "ttf" / "STIXGeneral.ttf"
    return ImageFont.truetype(str(file), DRAWN_PX, layout_engine=ImageFont.Layout.BASIC)


def demo_lines(documents: int, seed: int, per_document: int = 5) -> Iterator[DemoLine]:
    """Documents in a worn black letter, whose truth is plain Latin; needs only matplotlib's fonts."""
    font = demo_font()
    rng = np.random.default_rng([seed, 1])
    for number in range(documents):
        wear = Wear(
            height=int(rng.integers(32, 42)),
            ink=int(rng.integers(20, 60)),
            paper=int(rng.integers(190, 240)),
            tilt=float(rng.normal(0, 0.003)),
            blur=float(rng.uniform(0.8, 1.1)),
            noise=float(rng.uniform(4, 12)),
            shade=float(rng.normal(0, 20)),
            quality=int(rng.integers(45, 80)),
            spread=int(rng.integers(6, 8)),
            squeeze=float(rng.uniform(0.84, 0.9)),
        )
        for _ in range(per_document):
            text = prose(rng, Lexicon(english=()))
            text = "".join(c for c in text if c.isascii())
            yield DemoLine(
                f"demo-{seed}-{number:03}",
                text,
                worn(draw(black_letter(text), font, DEMO_TRACKING), wear, rng),
            )


def write_demo(folder: Path, documents: int, seed: int) -> None:
    """lines.tsv (file, document, text) and the PNG files that it names."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["file\tdocument\ttext"]
    for number, line in enumerate(demo_lines(documents, seed)):
        file = f"{line.document}-{number:04}.png"
        Image.fromarray(line.image).save(folder / file)
        rows.append(f"{file}\t{line.document}\t{line.text}")
    (folder / "lines.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.render", description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True)
    demo = jobs.add_parser("demo", help="documents in black letter, as lines.tsv and PNG files")
    demo.add_argument("folder", type=Path)
    demo.add_argument("--documents", type=int, default=20)
    demo.add_argument("--seed", type=int, default=0)
    packs = jobs.add_parser("packs", help="rehearsal.zip and golden.zip from Debian's fonts")
    packs.add_argument("--folder", type=Path, default=Path("redpencil/data"))
    primer = jobs.add_parser("primer", help="primer.zip, from fonts of Debian and of a folder")
    primer.add_argument("fonts", type=Path)
    primer.add_argument("--file", type=Path, default=Path("redpencil/data/primer.zip"))
    args = parser.parse_args()
    if args.job == "demo":
        write_demo(args.folder, args.documents, args.seed)
    elif args.job == "primer":
        from training.primers import write_primer

        write_primer(args.file, args.fonts)
    else:
        from training.packs import write_packs

        write_packs(args.folder)


if __name__ == "__main__":
    main()
