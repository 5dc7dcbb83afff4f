"""Draws examples/receipt.jpg: a photographed receipt of a bookshop that prints in black letter.

The type comes from the fonts inside the matplotlib package, so nothing has to be downloaded.
"""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FRAKTUR_CAPITAL, FRAKTUR_SMALL = 0x1D56C, 0x1D586
BLACK_LETTER = ["Antiquariat Kranz am Wall", "Alte Drucke und Karten", "Wir danken sehr"]
PRINT = [
    "Marktgasse 7, Nordhafen",
    "",
    "Atlas, 2nd edition       48.50",
    "Map of the coast         12.00",
    "Brass bookmark            3.25",
    "------------------------------",
    "TOTAL                    63.75",
    "CASH                     70.00",
    "CHANGE                    6.25",
    "",
    "2026-11-20 16:42  till 3",
]


def black_letter(text: str) -> str:
    """The same letters in Unicode's mathematical bold Fraktur, which STIX draws."""
    small = {chr(ord("a") + i): chr(FRAKTUR_SMALL + i) for i in range(26)}
    capital = {chr(ord("A") + i): chr(FRAKTUR_CAPITAL + i) for i in range(26)}
    return text.translate(str.maketrans(small | capital))


def draw() -> Image.Image:
    """The receipt, upright and clean."""
    heading = ImageFont.truetype(str(FONTS / "STIXGeneral.ttf"), 40)
    body = ImageFont.truetype(str(FONTS / "DejaVuSansMono.ttf"), 26)
    page = Image.new("L", (640, 860), 236)
    pen, y = ImageDraw.Draw(page), 50
    for text in BLACK_LETTER[:2]:
        pen.text((320, y), black_letter(text), fill=40, font=heading, anchor="mt")
        y += 62
    for text in PRINT:
        pen.text((60, y), text, fill=50, font=body)
        y += 44
    pen.text((320, y + 16), black_letter(BLACK_LETTER[2]), fill=40, font=heading, anchor="mt")
    return page


def photograph(page: Image.Image) -> Image.Image:
    """A little turned, softly lit from one side, with noise: as a telephone sees it."""
    turned = page.rotate(1.2, resample=Image.Resampling.BICUBIC, expand=True, fillcolor=120)
    pixels = np.asarray(turned.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float32)
    light = np.linspace(1.04, 0.82, pixels.shape[1])[None, :]
    noise = np.random.default_rng(7).normal(0, 4, pixels.shape)
    return Image.fromarray(np.clip(pixels * light + noise, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    photograph(draw()).convert("RGB").save(Path(__file__).with_name("receipt.jpg"), quality=80)
