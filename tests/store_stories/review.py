"""What waits for review: of the last reading of an image, the places of which nothing is said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import update
from store_parts import about, block, box, correction, image, prediction

from redpencil.ids import new_id
from redpencil.store import Store, migrate, schema
from redpencil.store.database import Database
from redpencil.types import Image, Prediction, Task
from store_stories.told import stored


def queue(store: Store, model: str = "ocr") -> list[tuple[str, str]]:
    """By prediction and region, as many as are counted."""
    found = [(p.id, b.id) for p, b in store.predictions.uncorrected(model, 99)]
    assert store.predictions.uncorrected_count(model) == len(found)
    return found


def read_again(store: Store, picture: Image, answer: Prediction, **given: object) -> Prediction:
    again = replace(answer, id=new_id("pred"), **given)
    store.predictions.add_many([(picture, again)])
    return again


def test_what_is_revoked_is_asked_for_again_where_the_image_was_read_last(store: Store) -> None:
    picture, first = stored(store, blocks=(block(0), block(1)))
    said = about(first, picture)
    store.corrections.add_many([said])
    again = read_again(store, picture, first)
    read_again(store, picture, first, mirror_of=again.id)
    assert queue(store) == [(again.id, "p0-b1")]
    store.corrections.revoke(said.id, "ann", "a slip")
    assert queue(store) == [(again.id, "p0-b0"), (again.id, "p0-b1")]


def test_a_place_waits_until_the_last_word_on_it_is_taken_back(store: Store) -> None:
    picture, answer = stored(store)
    said = [about(answer, picture, text=text) for text in ("one", "two")]
    store.corrections.add_many(said)
    for c in said:
        assert queue(store) == []
        store.corrections.revoke(c.id, "ann", "a slip")
    assert queue(store) == [(answer.id, "p0-b0")]


def test_what_is_said_of_a_place_without_a_prediction_is_asked_for_no_more(store: Store) -> None:
    picture, answer = stored(store, blocks=(block(0), block(1)))
    store.corrections.add_many([correction(picture, polygon=box(0.4)), correction(picture, polygon=box(99))])
    assert queue(store) == [(answer.id, "p0-b1")]
    store.corrections.add_many([correction(picture, polygon=answer.blocks[1].polygon, page=1)])
    assert queue(store) == [(answer.id, "p0-b1")], "of another page"
    below = replace(block(2), page=1)
    again = read_again(store, picture, answer, blocks=(*answer.blocks, below))
    assert queue(store) == [(again.id, "p0-b1"), (again.id, "p0-b2")]


def test_what_is_said_of_an_older_reading_is_asked_for_no_more(store: Store) -> None:
    picture, first = stored(store, blocks=(block(0), block(1)))
    again = read_again(store, picture, first)
    store.corrections.add_many([about(first, picture)])
    assert queue(store) == [(again.id, "p0-b1")]


def test_of_readings_that_are_kept_in_another_order_the_last_one_waits(store: Store) -> None:
    """As where two replicas read the same image, and the quicker one began later."""
    picture = image("a")
    first, last = prediction(picture), prediction(picture)
    for answer in (last, first):
        store.predictions.add_many([(picture, answer)])
    assert queue(store) == [(last.id, "p0-b0")]


def test_a_caption_by_anybody_is_enough_and_says_nothing_of_the_lines(store: Store) -> None:
    picture, line = stored(store)
    _, answer = stored(store, model="caption", task=Task.CAPTION)
    said = [about(answer, picture, task=Task.CAPTION, author=author) for author in ("ann", "bob")]
    store.corrections.add_many(said)
    assert (queue(store), queue(store, "caption")) == ([(line.id, "p0-b0")], [])
    store.corrections.revoke(said[0].id, "ann", "a slip")
    assert queue(store, "caption") == []
    store.corrections.revoke(said[1].id, "bob", "a slip")
    assert queue(store, "caption") == [(answer.id, "p0-b0")]


Write = Callable[[Store, Image, Prediction], None]


def correct(store: Store, picture: Image, answer: Prediction) -> None:
    store.corrections.add_many([about(answer, picture)])


def read(store: Store, picture: Image, answer: Prediction) -> None:
    read_again(store, picture, answer)


@pytest.mark.parametrize(("first", "second"), [(correct, read), (read, correct), (read, read)])
def test_of_writers_of_one_image_the_second_knows_what_the_first_has_kept(
    store: Store, first: Write, second: Write
) -> None:
    picture, answer = stored(store)
    other = threading.Thread(target=second, args=(store, picture, answer))
    with store.transaction():
        first(store, picture, answer)
        other.start()
        time.sleep(0.3)  # time to go wrong
    other.join()
    assert len(queue(store)) == (1 if first is second else 0)


def test_what_waits_is_put_right_in_a_database_of_before(empty_url: str) -> None:
    db = Database(empty_url)
    with db.write() as connection:
        migrate.run(connection, "0001")
    store = Store(db)
    picture, first = stored(store, blocks=(block(0), block(1), block(2)))
    again = read_again(store, picture, first)
    shadow = read_again(store, picture, first, mirror_of=again.id)
    untouched, other = stored(store, "b")
    gone = about(again, picture, again.blocks[1])
    store.corrections.add_many([about(first, picture), gone])
    store.corrections.revoke(gone.id, "ann", "a slip")
    told = queue(store)
    assert told == [(again.id, "p0-b1"), (again.id, "p0-b2"), (other.id, "p0-b0")]
    with db.write() as connection:
        shown, missing = schema.blocks.c.prediction != shadow.id, schema.blocks.c.id == "p0-b1"
        connection.execute(update(schema.blocks).where(shown).values(review="ocr"))
        connection.execute(update(schema.blocks).where(missing).values(review=None))
    assert queue(store) != told
    store.close()
    with Store.open(empty_url, migrate=True) as opened:
        assert queue(opened) == told
        assert opened.images.get(untouched.sha256) == untouched
