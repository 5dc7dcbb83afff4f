"""Make redpencil/data/primer.zip: lines in scripts, and a type, that the base reader does not know.

When corrections bring one of them, its lines are learned with the first corrections (training/data.py),
so that a reader has met every letter before somebody corrected each. Words come in random order
from the word lists of Debian's aspell and wngerman, so the lines are nobody's. Needs Debian's

    apt-get install aspell aspell-am aspell-ar aspell-bn aspell-el aspell-fa aspell-gu aspell-he
      aspell-hi aspell-hy aspell-kn aspell-ml aspell-or aspell-pa aspell-ru aspell-ta aspell-te
      wngerman fonts-noto-core fonts-noto-extra fonts-hosny-amiri fonts-lohit-beng-bengali
      fonts-lohit-deva fonts-lohit-gujr fonts-lohit-guru fonts-lohit-knda fonts-lohit-mlym
      fonts-lohit-orya fonts-lohit-taml fonts-lohit-telu fonts-blankenburg

and, in a folder of fonts, `npm install @expo-google-fonts/unifrakturmaguntia
@expo-google-fonts/unifrakturcook @expo-google-fonts/grenze-gotisch`.
"""

from __future__ import annotations

import json
import subprocess
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import ImageFont

from training import texts
from training.packs import WORD_LISTS, add, encoded, wear
from training.render import DRAWN_PX, draw, worn
from training.texts import Rng

LINES = 100  # of each kind
HEIGHTS = (30, 50)
FONTS = Path("/usr/share/fonts")
JOINERS = {"\u200c", "\u200d"}  # shape letters, have no picture
LONG_S = "\u017f"
CHILLU = dict(zip("ണനരലള", "ൺൻർൽൾ", strict=True))
"""Malayalam consonants without a vowel: one character, where older lists write three."""
BEYOND = 0x100  # letters before it are those of western print
LICENCES = {
    "Noto": "OFL-1.1",
    "Amiri": "OFL-1.1",
    "Lohit": "OFL-1.1",
    "Blankenburg": "OFL-1.1",
    "Unifraktur": "OFL-1.1",
    "GrenzeGotisch": "OFL-1.1",
}
ARABIC = ("NotoNaskhArabic-", "NotoSansArabic-Regular.", "NotoKufiArabic-Regular.", "Amiri-Regular.")
HEBREW = (
    "NotoSansHebrew-Regular.",
    "NotoSansHebrew-Bold.",
    "NotoSerifHebrew-Regular.",
    "NotoSerifHebrew-Bold.",
)
ORIYA = ("NotoSansOriya-Regular.", "NotoSansOriya-Bold.", "NotoSansOriya-Condensed.", "Lohit-Odia.")
PRINT = ("NotoSans-Regular", "NotoSans-Bold.", "NotoSerif-Regular", "NotoSerif-Bold.")


@dataclass(frozen=True)
class Script:
    """A kind of line: aspell's languages, how its fonts' names begin, and its own digits and marks."""

    name: str
    language: str
    fonts: tuple[str, ...]
    zero: str = ""
    stop: str = "."
    marks: str = ",?;"


def _of_noto(name: str, language: str, zero: str = "", stop: str = ".", *more: str) -> Script:
    cuts = ("Sans{}-Regular", "Sans{}-Bold", "Sans{}-Condensed", "Serif{}-Regular", "Serif{}-Bold")
    return Script(name.lower(), language, (*(f"Noto{cut.format(name)}." for cut in cuts), *more), zero, stop)


def _indic(name: str, language: str, zero: str, stop: str = ".") -> Script:
    return _of_noto(name, language, zero, stop, f"Lohit-{name}.")


BLACK_LETTER = Script(
    "black letter", "", ("UnifrakturMaguntia", "UnifrakturCook", "Blankenburg", "GrenzeGotisch_400")
)
SCRIPTS = (
    BLACK_LETTER,
    Script("arabic", "ar fa", ARABIC, "\u0660", marks="،؟؛"),
    _of_noto("Armenian", "hy", "", "\u0589"),
    _indic("Bengali", "bn", "\u09e6", "\u0964"),
    Script("cyrillic", "ru", PRINT),
    _indic("Devanagari", "hi", "\u0966", "\u0964"),
    _of_noto("Ethiopic", "am", "", "\u1362"),
    Script("greek", "el", PRINT),
    _indic("Gujarati", "gu", "\u0ae6"),
    _indic("Gurmukhi", "pa", "\u0a66", "\u0964"),
    Script("hebrew", "he", HEBREW),
    _indic("Kannada", "kn", "\u0ce6"),
    _indic("Malayalam", "ml", "\u0d66"),
    Script("oriya", "or", ORIYA, "\u0b66", "\u0964"),
    _indic("Tamil", "ta", "\u0be6"),
    _indic("Telugu", "te", "\u0c66"),
)


def write_primer(path: Path, more_fonts: Path, seed: int = 31) -> None:
    """The pack, byte for byte the same from the same fonts and word lists."""
    rows: list[dict[str, str]] = []
    used: set[str] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as pack:
        for script in SCRIPTS:
            rng = np.random.default_rng([seed, *script.name.encode()])
            for file, text in _lines(rng, script, more_fonts):
                data = encoded(worn(draw(text, _opened(file)), wear(rng, HEIGHTS), rng))
                rows.append({"file": f"{len(rows):04}.webp", "text": text, "kind": script.name})
                add(pack, rows[-1]["file"], data)
                used.add(file.name)
        add(pack, "lines.jsonl", "\n".join(json.dumps(r, ensure_ascii=False) for r in rows).encode())
        add(pack, "pack.json", json.dumps(_about(seed, rows, used), indent=1, ensure_ascii=False).encode())


def _lines(rng: Rng, script: Script, more_fonts: Path) -> Iterator[tuple[Path, str]]:
    fonts, words = _fonts(script, more_fonts), _words(script.language)
    for number in range(LINES):
        file, text = fonts[number % len(fonts)], ""
        while not text or not set(text) <= _drawable(file):
            text = _black_letter(rng, words) if script is BLACK_LETTER else _running(rng, script, words)
        yield file, text


def _running(rng: Rng, script: Script, words: Sequence[str]) -> str:
    length, parts = int(rng.integers(14, 56)), [texts.pick(rng, words)]
    while sum(len(part) + 1 for part in parts) < length:
        parts.append(texts.pick(rng, words) + _mark(rng, script))
        if rng.random() < 0.08:
            parts.append(_figure(rng, script.zero))
    text = " ".join(parts)
    return text if rng.random() < 0.9 else texts.pick(rng, ("“{}”", "({})", '"{}"')).format(text)


def _mark(rng: Rng, script: Script) -> str:
    comma, question, semicolon = tuple(script.marks)
    marks = (comma,) * 3 + (script.stop,) * 3 + (".", question, "!", semicolon, ":", "-")
    return texts.pick(rng, ("",) * 24 + marks)


def _figure(rng: Rng, zero: str) -> str:
    figure = texts.digits(rng, int(rng.integers(1, 5)))
    own = "".join(chr(ord(zero) + int(digit)) for digit in figure) if zero else figure
    return texts.pick(rng, (figure, own))


def _black_letter(rng: Rng, words: Sequence[str]) -> str:
    """German with long s and no hyphen at its end: printers and transcribers do not agree on that one."""
    return long_s(texts.german(rng, texts.Lexicon((), words)).rstrip("-—"))


def long_s(text: str) -> str:
    """Every s that a letter follows is long."""
    pairs = zip(text, f"{text[1:]} ", strict=True)
    return "".join(LONG_S if c == "s" and after.isalpha() else c for c, after in pairs)


@cache
def _words(language: str) -> Sequence[str]:
    if not language:
        listed = WORD_LISTS["ngerman"].read_text(encoding="utf-8").split()
    else:
        listed = _listed(language.split())
    found = (modern(word.split("/")[0]) for word in listed)
    return [word for word in found if 2 < len(word) < 14]


def _listed(languages: Sequence[str]) -> list[str]:
    """Words of aspell, of each language about as many."""
    dumps = [["aspell", "-d", language, "dump", "master"] for language in languages]
    lists = [subprocess.run(d, capture_output=True, text=True, check=True).stdout.split() for d in dumps]
    fewest = min(map(len, lists))
    return [word for words in lists for word in words[:: len(words) // fewest]]


def modern(word: str) -> str:
    """The word as it is typed today, in NFC."""
    for consonant, alone in CHILLU.items():
        word = word.replace(consonant + "\u0d4d\u200d", alone)
    return unicodedata.normalize("NFC", word)


def _fonts(script: Script, more: Path) -> list[Path]:
    installed = sorted(f for folder in (FONTS, more) for f in folder.rglob("*.[to]tf"))
    found = [[f for f in installed if f.name.startswith(start)] for start in script.fonts]
    if missing := [start for start, files in zip(script.fonts, found, strict=True) if not files]:
        raise FileNotFoundError(f"no font {missing[0]}*: install what training/primers.py names")
    return [file for files in found for file in files]


@cache
def _opened(file: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), DRAWN_PX, layout_engine=ImageFont.Layout.RAQM)


@cache
def _drawable(file: Path) -> set[str]:
    return set(map(chr, TTFont(file, lazy=True).getBestCmap())) | JOINERS


def _about(seed: int, rows: Sequence[dict[str, str]], used: set[str]) -> dict[str, object]:
    return {
        "name": "primer",
        "lines": len(rows),
        "seed": seed,
        "made_by": "python -m training.render primer",
        "texts": "words of Debian's word lists (aspell, wngerman) in random order",
        "fonts": sorted(used),
        "font_licences": {name: LICENCES[name] for name in LICENCES if any(f.startswith(name) for f in used)},
        "marks": {script.name: "".join(sorted(_marks(script.name, rows))) for script in SCRIPTS},
    }


def _marks(name: str, rows: Sequence[dict[str, str]]) -> set[str]:
    """Letters and signs that this kind alone has."""
    own = {c for row in rows if row["kind"] == name for c in row["text"]}
    others = {c for row in rows if row["kind"] != name for c in row["text"]}
    return {c for c in own - others if unicodedata.category(c)[0] in "LM" and ord(c) >= BEYOND}
