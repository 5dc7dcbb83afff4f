"""Writes a tiny data set of captioned pictures in COCO's layout: python3 examples/bars.py FOLDER"""

import json
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "white": (240, 240, 240)}
NUMBERS = ("one", "two", "three")


def paint(colour: str, bars: int) -> Image.Image:
    """Bars of one colour on black, never twice quite the same."""
    picture = Image.new("RGB", (48, 48), (20, 20, 20))
    for bar in range(bars):
        left, right = 4 + random.randrange(8), 36 + random.randrange(8)
        ImageDraw.Draw(picture).rectangle((left, 6 + 12 * bar, right, 14 + 12 * bar), COLOURS[colour])
    return picture


def write(folder: Path) -> None:
    random.seed(0)
    (folder / "annotations").mkdir(parents=True)
    for split, numbers in (("train", range(60)), ("val", range(60, 72))):
        (folder / split).mkdir()
        images, said = [], []
        for n in numbers:
            colour, bars = list(COLOURS)[n % 4], 1 + n // 4 % 3
            paint(colour, bars).save(folder / split / f"{n:04}.png")
            images.append({"id": n, "file_name": f"{n:04}.png"})
            plural = "bar" if bars == 1 else "bars"
            for text in (
                f"{NUMBERS[bars - 1]} {colour} {plural} on black",
                f"a black picture with {colour} {plural}",
            ):
                said.append({"image_id": n, "caption": text})
        content = json.dumps({"images": images, "annotations": said})
        (folder / "annotations" / f"captions_{split}.json").write_text(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
