"""A trial of captions: by the nearest reference, what was learned before, and the parrot to beat."""

from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase

import pytest
from trial_house import THINGS, Gallery, pictures

from redpencil import trial
from redpencil.types import Outcome, Split


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    made = Gallery(tmp_path / "home")
    yield made
    made.store.close()


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
