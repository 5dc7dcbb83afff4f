"""A trial reads with what would be served, on the lines that count, and keeps the verdict."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase

import cv2
import numpy as np
import pytest
import store_parts
import tiny_bundle

from redpencil import bundle, snapshot, trial
from redpencil.blobs import Blobs
from redpencil.linepack import PackedLine
from redpencil.settings import Settings
from redpencil.snapshot import side_of
from redpencil.types import (
    Correction,
    Doubt,
    ModelVersion,
    Outcome,
    Precision,
    ServingState,
    Split,
    Task,
    Verdict,
)

GOLDEN = [
    PackedLine(tiny_bundle.paint(text), text) for text in ("old and gold", "the base stays", "as it was")
]


class House:
    """A store and blobs in which versions of the tiny bundle stand trial."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.model, self.task = "ocr", Task.OCR
        home.mkdir(exist_ok=True)
        self.store = store_parts.new_store(home)
        self.blobs = Blobs.open(self.settings.blobs)
        self.made = 0

    def version(
        self,
        name: str,
        parent: str | None = None,
        learned: bool = False,
        run: str | None = None,
        **how: object,
    ) -> None:
        folder = self.settings.home / f"made-{name}"
        tiny_bundle.build(folder, lineage={"name": name}, **how)
        taken = snapshot.take(self.store, self.task).id if learned else None
        kept = bundle.put(folder, self.blobs)
        self.store.versions.add(ModelVersion(self.model, name, kept, time.time(), parent, taken, run))

    def serve(self, name: str) -> None:
        now = self.store.serving.get(self.model)
        entry = store_parts.entry(model=self.model, to_version=name)
        self.store.serving.change(ServingState(self.model, now.revision + 1, champion=name), entry)

    def correct(self, text: str, side: Split, lines: int = 1) -> list[Correction]:
        """One page in one document with `lines` equal lines, all corrected."""
        self.made += 1
        group = next(g for n in range(99) if side_of(g := f"document {self.made}.{n}") is side)
        line = tiny_bundle.paint(text)
        page = cv2.imencode(".png", np.concatenate([line] * lines))[1].tobytes()
        image = store_parts.image("", group)
        image = type(image)(self.blobs.put(page), group, "image/png", time.time())
        self.store.predictions.add_many([(image, store_parts.prediction(image))])
        height, width = line.shape[:2]
        tops = [n * height for n in range(lines)]
        boxes = [((0.0, y), (width, y), (width, y + height), (0.0, y + height)) for y in tops]
        made = [store_parts.correction(image, text, polygon=box) for box in boxes]
        self.store.corrections.add_many(made)
        return made

    def judge(self, name: str, **given: object) -> Verdict:
        cache = self.settings.home / "bundles"
        given = {"golden": GOLDEN, "task": self.task} | given
        return trial.hold(self.store, self.blobs, self.model, name, cache, **given)


class Gallery(House):
    """A house whose model says of each image what is painted there: its caption."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.model, self.task = self.settings.caption_model, Task.CAPTION

    def describe(self, painted: str, side: Split, *references: str) -> list[Correction]:
        """One image, captioned by several people; by default one says what is painted."""
        self.made += 1
        group = next(g for n in range(99) if side_of(g := f"image {self.made}.{n}") is side)
        pixels = tiny_bundle.paint(painted)
        image = store_parts.image("", group)
        png = cv2.imencode(".png", pixels)[1].tobytes()
        image = type(image)(self.blobs.put(png), group, "image/png", time.time())
        self.store.predictions.add_many([(image, store_parts.prediction(image, model=self.model))])
        height, width = (float(n) for n in pixels.shape[:2])
        whole = ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
        made = [
            store_parts.correction(
                image, text, polygon=whole, task=Task.CAPTION, author=f"reference {n}", model=self.model
            )
            for n, text in enumerate(references or (painted,))
        ]
        self.store.corrections.add_many(made)
        return made


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "home")
    yield made
    made.store.close()


def test_a_first_version_is_judged_on_the_golden_lines_alone(house: House) -> None:
    house.version("1")
    verdict = house.judge("1")
    assert verdict.outcome is Outcome.PASSED
    assert (verdict.candidate, verdict.champion) == ("1", "")
    assert verdict.scores["golden"]["cer"] == {"champion": None, "candidate": 0.0, "int8": 0.0, "fp32": 0.0}


def test_the_verdict_is_kept(house: House) -> None:
    house.version("1")
    assert house.judge("1") == house.store.versions.verdict("ocr", "1")


def test_the_champion_itself_has_no_opponent(house: House) -> None:
    house.version("1")
    house.serve("1")
    assert house.judge("1").champion == ""


def test_a_better_version_fixes_what_the_champion_read_wrong(house: House) -> None:
    house.version("1", misread={"e": "c"})
    house.serve("1")
    held = [c for n in range(12) for c in house.correct(f"every {tiny_bundle.ALPHABET[n]}", Split.HOLDOUT)]
    learned = house.correct("free", Split.TRAIN, lines=3)
    house.version("2", parent="1", learned=True)
    verdict = house.judge("2")
    assert verdict.outcome is Outcome.PASSED
    assert verdict.champion == "1"
    assert verdict.items == {c.id: "fixed" for c in [*held, *learned]}
    assert verdict.scores["holdout"]["documents"] == 12
    assert verdict.scores["trained"]["lines"] == 3
    graphemes = verdict.scores["graphemes"]
    assert graphemes["holdout"]["candidate"] == {"cer": 0.0}
    assert graphemes["holdout"]["champion"]["cer"] == verdict.scores["holdout"]["cer"]["champion"] > 0


def test_a_version_that_forgets_does_not_pass(house: House) -> None:
    house.version("1")
    house.serve("1")
    house.version("2", misread={"o": "a"})
    assert house.judge("2").outcome is not Outcome.PASSED


def test_what_an_ancestor_learned_is_read_too(house: House) -> None:
    house.version("1")
    (first,) = house.correct("first", Split.TRAIN)
    house.version("2", parent="1", learned=True)
    house.version("3", parent="2")
    house.serve("1")
    assert house.judge("3").items == {first.id: "still_right"}


def test_a_revoked_correction_is_no_truth_to_be_judged_by(house: House) -> None:
    house.version("1")
    house.serve("1")
    (wrong,) = house.correct("wrong", Split.TRAIN)
    house.version("2", parent="1", learned=True)
    house.store.corrections.revoke(wrong.id, "ann", "another line")
    assert house.judge("2").items == {}


def test_corrections_that_nobody_learned_from_do_not_count_as_trained(house: House) -> None:
    house.version("1")
    house.serve("1")
    house.version("2", parent="1")
    house.correct("after", Split.TRAIN)
    assert house.judge("2").scores["trained"]["lines"] == 0


def test_what_the_run_left_out_does_not_count_as_trained(house: House) -> None:
    house.version("1")
    house.serve("1")
    (kept,), (odd,) = house.correct("kept", Split.TRAIN), house.correct("odd", Split.TRAIN)
    work = store_parts.run()
    house.store.runs.add(work)
    house.store.doubts.add_many([Doubt(work.id, odd.id, 1.0, 0.9, True)])
    house.version("2", parent="1", learned=True, run=work.id)
    assert house.judge("2").items == {kept.id: "still_right"}


def test_int8_that_reads_worse_leaves_fp32_to_be_served(house: House) -> None:
    house.version("1", misread_int8={"d": "b"})
    assert house.judge("1").precision is Precision.FP32
    assert trial.served_precision(house.store, "ocr", "1") is Precision.FP32


def test_the_champion_reads_in_the_precision_in_which_it_is_served(house: House) -> None:
    house.version("1", misread_int8={"d": "b"})
    house.judge("1")
    house.serve("1")
    house.version("2")
    assert house.judge("2").scores["golden"]["cer"]["champion"] == 0.0


def test_nothing_is_said_of_the_precision_of_a_version_without_verdict(house: House) -> None:
    house.version("1")
    assert trial.served_precision(house.store, "ocr", "1") is None


def test_of_too_many_lines_the_newest_are_read_and_the_verdict_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.version("1")
    house.serve("1")
    held = house.correct("line", Split.HOLDOUT, lines=5)
    house.version("2", parent="1")
    monkeypatch.setattr(trial, "MOST_LINES", 3)
    verdict = house.judge("2")
    assert set(verdict.items) == {c.id for c in held[2:]}
    assert "Of 5 held-out corrected lines the newest 3 were read." in verdict.reasons


def test_every_reader_is_timed_on_every_line(house: House) -> None:
    house.version("1")
    house.serve("1")
    house.version("2")
    timed = house.judge("2").scores["latency"]
    assert all(timed[name] > 0 for name in ("champion", "candidate", "int8", "fp32"))


# --- captions ------------------------------------------------------------------------------------


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    made = Gallery(tmp_path / "home")
    yield made
    made.store.close()


THINGS = ("dog", "cat", "bird", "road", "tree", "boat", "lamp", "book", "crab", "door", "moon", "hand")


def pictures(gallery: Gallery, side: Split, words: str = "a {} by the sea") -> list[Correction]:
    return [c for thing in THINGS for c in gallery.describe(words.format(thing), side)]


def test_an_image_is_read_once_and_judged_by_its_nearest_reference(gallery: Gallery) -> None:
    gallery.version("1", misread={"x": "y"})
    gallery.serve("1")
    gallery.version("2", parent="1")
    gallery.describe("one big axe", Split.HOLDOUT, "two axes", "one small axe", "it is one very big axe")
    scores = gallery.judge("2").scores["holdout"]
    assert scores["lines"] == 1
    assert scores["chars"] == 4, "2, 3 and 6 words, on average"
    assert scores["wer"]["candidate"] == 1 / 4, "big for small"
    assert scores["wer"]["champion"] == 2 / 4, "and aye for axe"


def test_a_captioner_that_learned_passes_without_golden_images(gallery: Gallery) -> None:
    gallery.version("1", misread={"s": "z"})
    gallery.serve("1")
    held, learned = pictures(gallery, Split.HOLDOUT), pictures(gallery, Split.TRAIN, "the {} at sunset")
    gallery.version("2", parent="1", learned=True)
    verdict = gallery.judge("2")
    assert verdict.outcome is Outcome.PASSED
    assert verdict.items == {c.id: "fixed" for c in [*held, *learned]}
    assert verdict.scores["holdout"]["wer"] == {"champion": 0.2, "candidate": 0.0, "int8": 0.0, "fp32": 0.0}
    assert verdict.scores["earlier"]["lines"] == 0


def test_what_the_champion_had_learned_must_not_be_forgotten(gallery: Gallery) -> None:
    earlier = pictures(gallery, Split.TRAIN)
    gallery.version("1", learned=True)
    gallery.serve("1")
    held = pictures(gallery, Split.HOLDOUT, "{} of gold")
    new = pictures(gallery, Split.TRAIN, "{} of tin")
    gallery.version("2", parent="1", learned=True, misread={"y": "z"})
    verdict = gallery.judge("2")
    assert verdict.outcome is Outcome.FAILED
    assert "it forgets what it could describe" in verdict.reasons[0]
    assert [verdict.scores[part]["lines"] for part in ("holdout", "trained", "earlier")] == [12, 12, 12]
    assert {verdict.items[c.id] for c in earlier} == {"newly_broken"}
    assert {verdict.items[c.id] for c in [*held, *new]} == {"still_right"}


def test_every_reference_of_an_image_has_its_fate(gallery: Gallery) -> None:
    gallery.version("1", misread={"o": "a"})
    gallery.serve("1")
    both = gallery.describe("a dog", Split.HOLDOUT, "a dog", "some animal")
    gallery.version("2", parent="1")
    assert gallery.judge("2").items == {c.id: "fixed" for c in both}


def test_captions_of_both_are_scored_as_others_score_theirs(gallery: Gallery) -> None:
    gallery.version("1", misread={"s": "z"})
    gallery.serve("1")
    pictures(gallery, Split.HOLDOUT)
    gallery.version("2", parent="1")
    captions = gallery.judge("2").scores["captions"]
    assert set(captions) == {"holdout"}, "nothing was learned"
    assert captions["holdout"]["candidate"]["bleu4"] == pytest.approx(1.0)
    assert captions["holdout"]["champion"]["bleu1"] == pytest.approx(0.8)
    assert captions["holdout"]["champion"]["cider_d"] < captions["holdout"]["candidate"]["cider_d"]


def test_a_first_captioner_passes_where_it_beats_saying_always_the_same(gallery: Gallery) -> None:
    pictures(gallery, Split.HOLDOUT)
    gallery.describe("a thing by the sea", Split.TRAIN)
    gallery.version("1", learned=True)
    verdict = gallery.judge("1")
    assert verdict.outcome is Outcome.PASSED
    assert 'always saying "a thing by the sea" gives' in " ".join(verdict.reasons)
    assert set(verdict.scores["captions"]["holdout"]) == {"candidate"}


def test_a_first_captioner_that_says_nothing_of_the_image_fails(gallery: Gallery) -> None:
    pictures(gallery, Split.HOLDOUT)
    gallery.describe("a thing by the sea", Split.TRAIN)
    gallery.version("1", learned=True, misread=dict.fromkeys(ascii_lowercase, "q"))
    assert gallery.judge("1").outcome is Outcome.FAILED


def test_fewer_edits_do_not_hide_captions_that_say_nothing(gallery: Gallery) -> None:
    """What all captions share is read right, and the one word that tells the images apart is lost."""
    gallery.version("1", misread={"z": "q"})
    gallery.serve("1")
    for thing in THINGS:
        gallery.describe(f"zz zz {thing}", Split.HOLDOUT, f"zz zz {thing}", f"a {thing}", f"{thing} there")
    gallery.version("2", parent="1", misread=dict.fromkeys(ascii_lowercase, "w") | {"z": "z"})
    verdict = gallery.judge("2")
    assert verdict.scores["holdout"]["change"] < 0
    assert verdict.outcome is Outcome.FAILED
    assert "the captions say less of their images" in verdict.reasons[0]


def test_a_first_captioner_without_images_to_be_judged_by_is_inconclusive(gallery: Gallery) -> None:
    gallery.version("1")
    verdict = gallery.judge("1")
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "there are 0: add more images with captions" in verdict.reasons[0]


def test_of_too_many_images_the_newest_are_read(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery.version("1")
    gallery.serve("1")
    held = pictures(gallery, Split.HOLDOUT)
    gallery.version("2", parent="1")
    monkeypatch.setattr(trial, "MOST_IMAGES", 4)
    verdict = gallery.judge("2")
    assert set(verdict.items) == {c.id for c in held[-4:]}
    assert "Of 12 held-out images the newest 4 were read." in verdict.reasons


# --- as a command -------------------------------------------------------------------------------


@pytest.fixture
def command(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("REDPENCIL_HOME", str(house.settings.home))
    monkeypatch.setattr(trial.linepack, "load", lambda name: GOLDEN)
    return house


def test_the_command_prints_a_page_and_says_passed_by_its_status(
    command: House, capsys: pytest.CaptureFixture[str]
) -> None:
    command.version("1")
    assert trial.main(["ocr", "1"]) == 0
    assert capsys.readouterr().out.startswith("# Version 1: passed")


def test_the_command_prints_json_and_says_not_passed_by_its_status(
    command: House, capsys: pytest.CaptureFixture[str]
) -> None:
    command.version("1", misread=dict.fromkeys("adlo", "q"))
    assert trial.main(["ocr", "1", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["outcome"] == "failed"


def test_the_command_says_what_is_wrong_where_nothing_can_be_judged(
    command: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trial.main(["ocr", "7"]) == 2
    assert "7" in capsys.readouterr().err


def test_the_command_judges_the_caption_model_by_captions(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDPENCIL_HOME", str(gallery.settings.home))
    pictures(gallery, Split.HOLDOUT)
    gallery.version("1")
    assert trial.main([gallery.model, "1"]) == 0
    page = capsys.readouterr().out
    assert "| images | captions of | BLEU1 |" in page
    assert "| holdout | candidate | 1.000 |" in page
