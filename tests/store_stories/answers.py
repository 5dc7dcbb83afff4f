"""Predictions, and the blocks that wait for review."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy.exc import DBAPIError
from store_parts import (
    about,
    block,
    image,
    prediction,
)

from redpencil.errors import NotFound
from redpencil.ids import new_id
from redpencil.store import Store, predictions
from redpencil.types import Task, Variant
from store_stories.told import stored

# --- predictions


def test_a_prediction_comes_back_as_it_was_given(store: Store) -> None:
    blocks = (block(0, "naïve ಕನ್ನಡ", 0.75), block(1, "", 0.0))
    picture, answer = stored(store, blocks=blocks, client_key="k", request_id="r", revision=7)
    assert store.predictions.get(answer.id) == answer
    assert store.images.get(picture.sha256) == picture


def test_an_answer_without_any_block_is_kept_too(store: Store) -> None:
    _, answer = stored(store, blocks=())
    assert store.predictions.get(answer.id) == answer


def test_every_image_as_it_was_read_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "PAGE", 2)
    a, b, c = image("a", "one"), image("b", "two"), image("c", "three")
    first, second, third, again = (prediction(of) for of in (a, b, c, a))
    shadow = prediction(b, mirror_of=second.id)
    late = prediction(c, created_at=time.time() + 60)
    other = prediction(b, model="caption")
    answered = [(a, first), (b, second), (c, third), (a, again), (b, shadow), (c, late), (b, other)]
    store.predictions.add_many(answered)
    found = list(store.predictions.latest("ocr", time.time() + 1))
    assert found == [(again, "one"), (third, "three"), (second, "two")]


def test_an_unknown_prediction_or_image_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="pred_x"):
        store.predictions.get("pred_x")
    assert store.images.get("0" * 64) is None


def test_the_first_group_of_an_image_is_its_group_for_life(store: Store) -> None:
    stored(store, "a", "first")
    kept, _ = stored(store, "a", "second")
    assert kept.group == "first"


def test_within_one_commit_too_the_first_group_wins(store: Store) -> None:
    one, two = image("a", "first"), image("a", "second")
    kept = store.predictions.add_many([(one, prediction(one)), (two, prediction(two))])
    assert [k.group for k in kept] == ["first", "first"]


def test_predictions_are_all_kept_or_none(store: Store) -> None:
    picture = image("a")
    good, twin = prediction(picture), prediction(picture, blocks=(block(0), block(0)))
    with pytest.raises(DBAPIError):
        store.predictions.add_many([(picture, good), (picture, twin)])
    assert store.predictions.list() == []
    assert store.images.get(picture.sha256) is None


def test_predictions_are_listed_newest_first_in_pages(store: Store) -> None:
    answers = [stored(store, str(n), id=f"pred_{n:04d}")[1] for n in range(7)]
    first = store.predictions.list(limit=3)
    second = store.predictions.list(limit=3, after=first[-1].id)
    third = store.predictions.list(limit=3, after=second[-1].id)
    assert first + second + third == answers[::-1]


def test_predictions_are_listed_by_model_and_version(store: Store) -> None:
    _, one = stored(store, "a", version="1")
    _, two = stored(store, "b", version="2")
    assert store.predictions.list(model="ocr", version="2") == [two]
    assert store.predictions.list(model="ocr") == [two, one]
    assert store.predictions.list(model="other") == []
    assert store.predictions.count("ocr", "1") == 1


def test_a_mirrored_answer_is_found_from_the_one_it_shadows(store: Store) -> None:
    picture, answer = stored(store)
    shadow = prediction(picture, version="2", variant=Variant.CHALLENGER, mirror_of=answer.id)
    store.predictions.add_many([(picture, shadow)])
    assert store.predictions.mirrors_of([answer.id, "pred_x"]) == {answer.id: shadow}
    assert store.predictions.mirrors_of([]) == {}


# --- review


def test_the_least_confident_block_is_reviewed_first(store: Store) -> None:
    _, one = stored(store, "a", blocks=(block(0, confidence=0.9), block(1, confidence=0.2)))
    _, two = stored(store, "b", blocks=(block(0, confidence=0.5),))
    found = store.predictions.uncorrected("ocr", 10)
    assert found == [(one, one.blocks[1]), (two, two.blocks[0]), (one, one.blocks[0])]
    assert store.predictions.uncorrected("ocr", 2) == found[:2]


@pytest.mark.parametrize("order", ["least_confident", "random"])
def test_corrected_blocks_leave_the_queue_and_revoked_corrections_bring_them_back(
    store: Store, order: str
) -> None:
    picture, answer = stored(store, blocks=(block(0), block(1)))
    said = about(answer, picture, answer.blocks[0])
    store.corrections.add_many([said])
    assert store.predictions.uncorrected("ocr", 5, order) == [(answer, answer.blocks[1])]
    assert store.predictions.uncorrected_count("ocr") == 1
    store.corrections.revoke(said.id, "ann", "a slip")
    assert len(store.predictions.uncorrected("ocr", 5, order)) == 2
    assert store.predictions.uncorrected_count("ocr") == 2


def test_of_an_image_that_is_read_again_what_was_corrected_waits_no_more(store: Store) -> None:
    picture, first = stored(store, blocks=(block(0), block(1)))
    store.corrections.add_many([about(first, picture, first.blocks[0])])
    again = replace(first, id=new_id("pred"), version="2")
    shadow = replace(first, id=new_id("pred"), mirror_of=again.id)
    other = replace(first, id=new_id("pred"), model="caption", task=Task.CAPTION)
    store.predictions.add_many([(picture, again), (picture, shadow), (picture, other)])
    assert [(p.id, b.id) for p, b in store.predictions.uncorrected("ocr", 9)] == [
        (again.id, again.blocks[1].id)
    ]
    assert store.predictions.uncorrected_count("ocr") == 1
    assert len(store.predictions.uncorrected("caption", 9)) == 2, "of a caption nobody has said anything"


def test_a_block_corrected_twice_is_counted_once(store: Store) -> None:
    picture, answer = stored(store, blocks=(block(0), block(1)))
    store.corrections.add_many([about(answer, picture), about(answer, picture)])
    assert store.predictions.uncorrected_count("ocr") == 1


def test_nobody_reviews_mirrored_answers_or_those_of_other_models(store: Store) -> None:
    stored(store, "a", mirror_of="pred_1")
    stored(store, "b", model="other")
    for order in ("least_confident", "random"):
        assert store.predictions.uncorrected("ocr", 5, order) == []
    assert store.predictions.uncorrected_count("ocr") == 0


@pytest.mark.parametrize("population", [6, 60])
def test_a_random_sample_is_uniform(store: Store, population: int) -> None:
    """Six blocks are too few to guess row numbers for five of them; sixty are not."""
    blocks = tuple(block(n, confidence=n / population) for n in range(population))
    stored(store, blocks=blocks)
    stored(store, "other", model="other", blocks=blocks)
    limit, rounds = 5, 120
    seen: Counter[str] = Counter()
    for _ in range(rounds):
        drawn = [b.id for _, b in store.predictions.uncorrected("ocr", limit, "random")]
        assert len(drawn) == len(set(drawn)) == limit
        seen.update(drawn)
    expected = rounds * limit / population
    chi_squared = sum((seen[b.id] - expected) ** 2 / expected for b in blocks)
    assert chi_squared < population + 6 * (2 * population) ** 0.5  # far beyond one false alarm in a million


def test_useful_blocks_are_unlike_each_other_and_unlike_what_was_corrected(store: Store) -> None:
    words = ("old books", "old book", "fine maps", "rare ink")
    blocks = tuple(block(n, text, 0.5 if n < 2 else 0.6) for n, text in enumerate(words))
    picture, answer = stored(store, blocks=blocks)

    def asked(limit: int) -> list[str]:
        return [b.text for _, b in store.predictions.useful("ocr", limit)]

    assert asked(1) == ["old books"]
    assert sorted(asked(3)) == ["fine maps", "old books", "rare ink"]
    assert sorted(asked(9)) == sorted(words)
    store.corrections.add_many([about(answer, picture, blocks[0])])
    assert asked(3)[-1] == "old book"
    assert store.predictions.useful("other", 3) == []
