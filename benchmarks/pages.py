"""Whole pages beside RapidOCR's own whole pipeline: lines found, error rate, seconds; same images, same run.

    python -m benchmarks.pages --data ../shared/data --sets sroie_receipts funsd_forms --out pages.json

Both get the bytes of each file and as many threads. They take turns page by page, and who goes
first alternates. With `--url` our side is a running server asked over HTTP, else our own rooms in
this process with the bundle given, or the base bundle, which is made on first use.

What is counted, the same for both. A predicted line belongs to the ground-truth line that holds
most of its box, if that is at least half of it. A ground-truth line is found if a prediction
belongs to it; its reading is all that belong to it, from left to right. Error rates are of
characters, without spaces and without case; all characters of a line that was not found count as
errors. "joined" forgives where a line was cut otherwise than in the ground truth: lines and
predictions that overlap by half of the smaller are compared as one text. Sets whose pages have a
text and no boxes are scored by the text of the whole page in reading order.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from redpencil.metrics import distance
from redpencil.settings import Settings

Box = tuple[float, float, float, float]
Read = Callable[[bytes], "list[Line]"]


@dataclass(frozen=True)
class Line:
    """A box x0, y0, x1, y1 and its text as it is compared."""

    box: Box
    text: str

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    def inside(self, other: Line) -> float:
        """The share of this line's box that lies in the other's."""
        return self.shared(other) / max(self.area, 1e-9)

    def shared(self, other: Line) -> float:
        (a0, b0, a1, b1), (c0, d0, c1, d1) = self.box, other.box
        return max(0.0, min(a1, c1) - max(a0, c0)) * max(0.0, min(b1, d1) - max(b0, d0))


@dataclass
class Score:
    """Sums over pages."""

    lines: int = 0
    found: int = 0
    characters: int = 0
    errors: int = 0
    errors_joined: int = 0
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def told(self) -> dict[str, float]:
        """The figures; CPU seconds of this process alone."""
        return {
            "lines": self.lines,
            "found": round(self.found / max(self.lines, 1), 4),
            "cer": round(self.errors / max(self.characters, 1), 4),
            "cer_joined": round(self.errors_joined / max(self.characters, 1), 4),
            "wall_s_per_page": round(statistics.mean(self.wall_s), 3),
            "cpu_s_per_page": round(statistics.mean(self.cpu_s), 3),
        }


def compared(text: str) -> str:
    return "".join(text.split()).casefold()


def line(corners: Sequence[Sequence[float]], text: str) -> Line:
    xs, ys = zip(*corners, strict=True)
    return Line((min(xs), min(ys), max(xs), max(ys)), compared(text))


# --- scoring ------------------------------------------------------------------------------------


def score_boxes(truth: Sequence[Line], read: Sequence[Line], score: Score) -> None:
    belonging: dict[int, list[Line]] = defaultdict(list)
    for one in read:
        shares = [one.inside(t) for t in truth]
        if max(shares, default=0.0) >= 0.5:
            belonging[shares.index(max(shares))].append(one)
    score.lines += len(truth)
    score.found += len(belonging)
    score.characters += sum(len(t.text) for t in truth)
    score.errors += sum(distance(t.text, joined(belonging[i])) for i, t in enumerate(truth))
    score.errors_joined += sum(distance(joined(a), joined(b)) for a, b in groups(truth, read))


def joined(lines: Sequence[Line]) -> str:
    return "".join(one.text for one in sorted(lines, key=lambda one: one.box[0]))


def groups(truth: Sequence[Line], read: Sequence[Line]) -> list[tuple[list[Line], list[Line]]]:
    """What overlaps, directly or through others, with at least one line of the truth in it."""
    members = [(t, True) for t in truth] + [(r, False) for r in read]
    root = list(range(len(members)))

    def find(i: int) -> int:
        while root[i] != i:
            i = root[i]
        return i

    for i, t in enumerate(truth):
        for j, r in enumerate(read, len(truth)):
            if t.shared(r) >= 0.5 * min(t.area, r.area):
                root[find(i)] = find(j)
    found: dict[int, tuple[list[Line], list[Line]]] = defaultdict(lambda: ([], []))
    for i, (one, is_truth) in enumerate(members):
        found[find(i)][0 if is_truth else 1].append(one)
    return [group for group in found.values() if group[0]]


def score_text(truth: str, read: Sequence[Line], score: Score) -> None:
    """Hyphens are left out: the truth has none where the print divides a word."""
    want, got = (compared(t).replace("-", "") for t in (truth, "".join(one.text for one in read)))
    score.lines += 1
    score.found += 1
    score.characters += len(want)
    errors = distance(want, got)
    score.errors += errors
    score.errors_joined += errors


def score_page(image: Path, read: Sequence[Line], score: Score) -> None:
    boxes = image.with_suffix(".json")
    if not boxes.exists():
        return score_text(image.with_suffix(".txt").read_text(encoding="utf-8"), read, score)
    for_all = json.loads(boxes.read_text(encoding="utf-8"))["lines"]
    truth = [Line(tuple(item["box"]), compared(item["text"])) for item in for_all]
    score_boxes([t for t in truth if t.text and t.area], read, score)


# --- who reads ----------------------------------------------------------------------------------


def ours_here(folder: Path | None, threads: int) -> Read:
    from redpencil.pixels import crop_line, open_pages
    from redpencil.reader import LineReader, read_parallel
    from serving.pages import Detector
    from training import base

    settings = Settings()
    reader = LineReader(folder or base.kept(settings.home))
    detector = Detector(threads)

    def read(data: bytes) -> list[Line]:
        (page,) = open_pages(data, None, settings.max_pixels, 1)
        polygons = detector.find_lines(page)
        texts = read_parallel(reader, [crop_line(page, polygon) for polygon in polygons], threads)
        return [line(polygon, t.text) for polygon, t in zip(polygons, texts, strict=True)]

    return read


def ours_served(url: str) -> Read:
    def read(data: bytes) -> list[Line]:
        headers = {"Content-Type": "image/jpeg" if data[:2] == b"\xff\xd8" else "image/png"}
        request = urllib.request.Request(f"{url}/v1/ocr?mode=page", data, headers)
        with urllib.request.urlopen(request, timeout=300) as answer:
            pages = json.load(answer)["pages"]
        return [Line(tuple(b["bbox"]), compared(b["text"])) for page in pages for b in page["blocks"]]

    return read


def rapidocr(threads: int) -> Read:
    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    engine = "EngineConfig.onnxruntime"
    settings = {f"{engine}.intra_op_num_threads": threads, f"{engine}.inter_op_num_threads": 1}
    whole = RapidOCR(params=settings | {"Global.log_level": "error"})

    def read(data: bytes) -> list[Line]:
        answer = whole(data)
        if answer.boxes is None:
            return []
        return [line(box.tolist(), text) for box, text in zip(answer.boxes, answer.txts, strict=True)]

    return read


# --- the run ------------------------------------------------------------------------------------


def pages_of(folder: Path, limit: int | None) -> list[Path]:
    images = sorted(p for p in (folder / "pages").iterdir() if p.suffix in (".jpg", ".png"))
    return images[:limit]


def run(images: Sequence[Path], readers: dict[str, Read], rounds: int) -> dict[str, Score]:
    scores = {name: Score() for name in readers}
    for name in readers:  # the first page is slower: kernels and memory are being set up
        readers[name](images[0].read_bytes())
    for turn in range(rounds):
        for i, image in enumerate(images):
            names = list(readers) if (i + turn) % 2 else list(reversed(readers))
            for name in names:
                wall, cpu = time.perf_counter(), time.process_time()
                read = readers[name](image.read_bytes())
                scores[name].wall_s.append(time.perf_counter() - wall)
                scores[name].cpu_s.append(time.process_time() - cpu)
                if turn == 0:
                    score_page(image, read, scores[name])
    return scores


def report(scores: dict[str, Score]) -> dict[str, Any]:
    ours, peer = (scores[name] for name in ("redpencil", "rapidocr"))
    ratios = [a / b for a, b in zip(ours.wall_s, peer.wall_s, strict=True)]
    return {name: s.told() for name, s in scores.items()} | {
        "wall_ratio": round(sum(ours.wall_s) / sum(peer.wall_s), 3),
        "wall_ratio_median_page": round(statistics.median(ratios), 3),
        "cpu_ratio": round(sum(ours.cpu_s) / sum(peer.cpu_s), 3),
        "pages": {name: asdict(s) for name, s in scores.items()},
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("REDPENCIL_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder of page sets")
    parser.add_argument("--sets", nargs="+", default=["sroie_receipts", "funsd_forms", "oldbooks_english"])
    parser.add_argument("--limit", type=int, help="pages per set")
    parser.add_argument("--rounds", type=int, default=1, help="times each page is read, for the seconds")
    parser.add_argument("--threads", type=int, default=2, help="for either side")
    parser.add_argument("--bundle", type=Path, help="bundle folder; else the base bundle")
    parser.add_argument("--url", help="ask this server instead, such as http://127.0.0.1:8000")
    parser.add_argument("--out", type=Path, help="write everything as JSON here")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    ours = ours_served(args.url) if args.url else ours_here(args.bundle, args.threads)
    readers = {"redpencil": ours, "rapidocr": rapidocr(args.threads)}
    found: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "threads": args.threads}
    for name in args.sets:
        found[name] = report(run(pages_of(args.data / name, args.limit), readers, args.rounds))
        if args.url:  # a server's CPU seconds are not seen from here
            del found[name]["cpu_ratio"], found[name]["redpencil"]["cpu_s_per_page"]
        short = {k: v for k, v in found[name].items() if k != "pages"}
        print(name, json.dumps(short, indent=2), flush=True)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
