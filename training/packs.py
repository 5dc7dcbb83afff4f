"""Make redpencil/data/rehearsal.zip and golden.zip: lines of the base domain, with their text.

The rehearsal pack is gone over again while learning, so that the base domain is not forgotten;
the golden pack is what the gate checks it on. They share no text and few fonts. (The third pack, of
other scripts, comes from training/primers.py.) Needs Debian's

    apt-get install fonts-dejavu-core fonts-liberation fonts-freefont-ttf fonts-ebgaramond
      fonts-linuxlibertine fonts-crosextra-carlito fonts-crosextra-caladea fonts-inconsolata
      fonts-hack fonts-gfs-didot fonts-oldstandard fonts-cantarell fonts-roboto-unhinted fonts-lato
      fonts-courier-prime fonts-urw-base35 fonts-open-sans fonts-comic-neue fonts-vollkorn
      fonts-junicode fonts-noto-core fonts-noto-cjk fonts-wqy-zenhei wamerican wngerman wfrench
"""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnx
from fontTools.ttLib import TTFont
from PIL import ImageFont

from redpencil.pixels import Pixels
from training import texts
from training.recipes import ppocr
from training.render import DRAWN_PX, Wear, draw, worn
from training.texts import Lexicon, Rng

Writer = Callable[[Rng, Lexicon], str]
Fonts = dict[str, tuple[str, ...]]
WORD_LISTS = {name: Path("/usr/share/dict") / name for name in ("american-english", "ngerman", "french")}
LICENCES = {
    "fonts-dejavu-core": "Bitstream Vera",
    "fonts-liberation": "OFL-1.1",
    "fonts-ebgaramond": "OFL-1.1",
    "fonts-linuxlibertine": "OFL-1.1",
    "fonts-crosextra-carlito": "OFL-1.1",
    "fonts-crosextra-caladea": "OFL-1.1",
    "fonts-inconsolata": "OFL-1.0",
    "fonts-hack": "Expat and Bitstream Vera",
    "fonts-gfs-didot": "OFL-1.1",
    "fonts-oldstandard": "OFL-1.1",
    "fonts-cantarell": "OFL-1.1",
    "fonts-roboto-unhinted": "Apache-2.0",
    "fonts-lato": "OFL-1.1",
    "fonts-courier-prime": "OFL-1.1",
    "fonts-urw-base35": "AGPL-3 with font exception",
    "fonts-open-sans": "Apache-2.0",
    "fonts-comic-neue": "OFL-1.1",
    "fonts-vollkorn": "OFL-1.1",
    "fonts-junicode": "OFL-1.1",
    "fonts-noto-core": "OFL-1.1",
    "fonts-noto-cjk": "OFL-1.1",
    "fonts-wqy-zenhei": "GPL-2 with font embedding exception",
    "fonts-freefont-ttf": "GPL-3+ with font exception",
}
SERIF: Fonts = {
    "rehearsal": ("LiberationSerif", "DejaVuSerif", "LinLibertine_R", "OldStandard", "C059", "NimbusRoman",
                  "NotoSerif-", "GFSDidot", "Vollkorn-Regular", "Vollkorn-Italic", "P052"),
    "golden": ("EBGaramond12", "Caladea", "FreeSerif", "JunicodeTwoBeta-Regular", "NimbusRoman",
               "NotoSerifDisplay-Regular"),
}  # fmt: skip
SANS: Fonts = {
    "rehearsal": ("LiberationSans", "DejaVuSans", "Carlito", "Roboto-", "OpenSans-Regular", "NimbusSans",
                  "URWGothic", "OpenSans-Cond", "ComicNeue-Bold", "LinBiolinum_R"),
    "golden": ("Lato-Regular", "Lato-Bold", "Cantarell-Regular", "Cantarell-Bold", "FreeSans",
               "NimbusSansNarrow", "NotoSans-Regular", "NotoSans-Bold"),
}  # fmt: skip
MONO: Fonts = {
    "rehearsal": ("LiberationMono", "DejaVuSansMono", "Courier Prime", "Inconsolata", "NimbusMonoPS-Bold"),
    "golden": ("Hack-", "FreeMono", "NimbusMonoPS-Regular"),
}
EAST: Fonts = {
    "rehearsal": ("NotoSansCJK", "NotoSerifCJK-Regular"),
    "golden": ("wqy-zenhei", "NotoSerifCJK-Bold"),
}


@dataclass(frozen=True)
class LineKind:
    """A kind of line: its share of each pack, how its text comes about, its fonts and heights."""

    name: str
    share: dict[str, float]
    write: Writer
    fonts: tuple[Fonts, ...]
    heights: tuple[int, int]


def _shares(rehearsal: float, golden: float) -> dict[str, float]:
    return {"rehearsal": rehearsal, "golden": golden}


# Far more characters than lines: Chinese and Japanese are rehearsed more than they are examined,
# or rows of the head that learn (above all those of new characters) fire on what they never met.
KINDS = (
    LineKind("prose", _shares(0.22, 0.3), texts.prose, (SERIF, SERIF, SANS), (24, 60)),
    LineKind("german", _shares(0.04, 0.05), texts.german, (SERIF, SANS), (24, 60)),
    LineKind("french", _shares(0.04, 0.05), texts.french, (SERIF, SANS), (24, 60)),
    LineKind("receipt", _shares(0.26, 0.28), texts.receipt, (MONO, SANS, SANS), (16, 48)),
    LineKind("form", _shares(0.13, 0.14), texts.form, (MONO, SANS, SERIF), (15, 34)),
    LineKind("figures", _shares(0.08, 0.08), texts.figures, (MONO, SANS, SERIF), (16, 48)),
    LineKind("chinese", _shares(0.17, 0.07), texts.chinese, (EAST,), (28, 56)),
    LineKind("japanese", _shares(0.06, 0.03), texts.japanese, (EAST,), (28, 56)),
)


def write_packs(folder: Path) -> None:
    """Both packs, byte for byte the same from the same fonts and word lists."""
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for name, count, seed in (("rehearsal", 1200, 11), ("golden", 400, 23)):
        _write(folder / f"{name}.zip", name, count, seed, taken)


def _write(path: Path, name: str, count: int, seed: int, taken: set[str]) -> None:
    rng, words = np.random.default_rng(seed), lexicon()
    rows: list[dict[str, str]] = []
    used: set[str] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as pack:
        for kind in (k for k in KINDS for _ in range(round(k.share[name] * count))):
            file, text = _fresh(rng, kind, name, words, taken)
            data = encoded(worn(draw(text, _opened(file)), wear(rng, kind.heights), rng))
            rows.append({"file": f"{len(rows):04}.webp", "text": text, "kind": kind.name})
            add(pack, rows[-1]["file"], data)
            used.add(file.name)
        add(pack, "lines.jsonl", "\n".join(json.dumps(r, ensure_ascii=False) for r in rows).encode())
        add(pack, "pack.json", json.dumps(_about(name, seed, len(rows), used), indent=1).encode())


def add(pack: zipfile.ZipFile, name: str, data: bytes) -> None:
    pack.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data)


def _fresh(rng: Rng, kind: LineKind, pack: str, lexicon: Lexicon, taken: set[str]) -> tuple[Path, str]:
    """A font and a text that it can draw and that no pack holds yet."""
    while True:
        group = kind.fonts[int(rng.integers(len(kind.fonts)))][pack]
        files = _files(texts.pick(rng, group))
        file, text = files[int(rng.integers(len(files)))], kind.write(rng, lexicon)
        if text not in taken and set(text) <= _drawable(file):
            taken.add(text)
            return file, text


def wear(rng: Rng, heights: tuple[int, int]) -> Wear:
    """Anything from a clean scan to a bad photograph of a receipt."""
    low, high = heights
    bad = float(rng.beta(1.4, 1.8))
    binary = rng.random() < 0.2
    return Wear(
        height=int(rng.integers(low, high)),
        ink=int(rng.integers(0, int(60 + 80 * bad))),
        paper=int(rng.integers(int(200 - 40 * bad), 256)),
        tilt=float(rng.normal(0, 0.004)),
        blur=0.3 + 1.7 * bad * float(rng.random()),
        noise=0.0 if binary or rng.random() < 0.5 else 24 * bad,
        shade=0.0 if binary else float(rng.normal(0, 25 * bad)),
        quality=int(95 - 60 * bad),
        binary=bool(binary),
        spread=int(rng.choice([0, 0, 0, 0, 2, 3])),
        squeeze=float(np.exp(rng.normal(0, 0.08))),
    )


def encoded(line: Pixels) -> bytes:
    done, data = cv2.imencode(".webp", line, [cv2.IMWRITE_WEBP_QUALITY, 70])
    if not done:
        raise RuntimeError("OpenCV could not write WebP")
    return bytes(data)


def lexicon() -> Lexicon:
    english, german, french = (_words(path) for path in WORD_LISTS.values())
    return Lexicon(english, german, french)


def _words(path: Path) -> Sequence[str]:
    words = path.read_text(encoding="utf-8").split()
    return [w for w in words if w.isalpha() and 2 < len(w) < 14]


@cache
def _files(start: str) -> list[Path]:
    found = sorted(f for f in _installed() if f.name.startswith(start))
    if not found:
        raise FileNotFoundError(f"no font {start}*: install the packages named in training/packs.py")
    return found


@cache
def _installed() -> dict[Path, str]:
    """Every font file of the packages in LICENCES."""
    fonts: dict[Path, str] = {}
    for package in LICENCES:
        listed = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=True)
        fonts |= {Path(f): package for f in listed.stdout.split("\n") if f.endswith((".ttf", ".otf", ".ttc"))}
    return fonts


@cache
def _opened(file: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), DRAWN_PX, layout_engine=ImageFont.Layout.BASIC)


@cache
def _drawable(file: Path) -> frozenset[str]:
    """What the font has and the base model can spell."""
    known = ppocr.base_alphabet(onnx.load(ppocr.base_file()))
    return frozenset(map(chr, TTFont(file, fontNumber=0, lazy=True).getBestCmap())) & set(known)


def _about(name: str, seed: int, count: int, used: set[str]) -> dict[str, object]:
    packages = {p for f, p in _installed().items() if f.name in used}
    return {
        "name": name,
        "lines": count,
        "seed": seed,
        "made_by": "python -m training.render packs",
        "texts": "made up from word lists of Debian (wamerican, wngerman, wfrench) and patterns",
        "fonts": sorted(used),
        "font_licences": {p: LICENCES[p] for p in sorted(packages)},
    }
