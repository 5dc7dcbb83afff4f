"""Snapshots: reproducible, and no image ever changes its side."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_parts import box, correction, image, new_store, prediction

from redpencil import snapshot
from redpencil.store import Store
from redpencil.types import Split, Task


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as opened:
        yield opened


def corrected(store: Store, *groups: str) -> None:
    for group in groups:
        picture = image(f"picture of {group}", group)
        store.predictions.add_many([(picture, prediction(picture))])
        store.corrections.add_many([correction(picture, f"text of {group}")])


def test_the_sides_are_what_they_were_in_the_first_release() -> None:
    """If this fails, images that were held out would be trained on: the rule must not change."""
    sides = "".join(snapshot.side_of(f"document-{n}").value[0] for n in range(40))
    assert sides == "hthtttttttttthtthtthttthttthhtttttttttht"
    assert snapshot.side_of("Fürſtenbüchlein") is Split.HOLDOUT


def test_one_group_in_five_is_held_out() -> None:
    held = sum(snapshot.side_of(str(n)) is Split.HOLDOUT for n in range(5_000))
    assert 900 < held < 1_100


def test_equal_corrections_give_an_equal_id(store: Store) -> None:
    corrected(store, "a", "b", "c")
    assert snapshot.take(store, Task.OCR) == snapshot.take(store, Task.OCR)


def test_the_id_is_the_hash_of_the_manifest(store: Store) -> None:
    corrected(store, "a", "b")
    frozen = snapshot.take(store, Task.OCR)
    manifest = snapshot.manifest(store.snapshots.get(frozen.id))
    assert hashlib.sha256(manifest).hexdigest() == frozen.id
    content = json.loads(manifest)
    assert [m["text"] for m in content["members"]] == ["text of a", "text of b"]
    assert content["format"] == 1


def test_the_manifest_does_not_depend_on_order_or_on_whole_numbers(store: Store) -> None:
    corrected(store, "a", "b", "c")
    frozen = snapshot.take(store, Task.OCR)
    whole = tuple(tuple((int(x), int(y)) for x, y in m.polygon) for m in frozen.members)
    shuffled = tuple(replace(m, polygon=p) for m, p in zip(frozen.members, whole, strict=True))[::-1]
    assert snapshot.manifest(replace(frozen, members=shuffled)) == snapshot.manifest(frozen)


def test_anything_new_gives_another_id(store: Store) -> None:
    corrected(store, "a")
    before = snapshot.take(store, Task.OCR)
    corrected(store, "b")
    after = snapshot.take(store, Task.OCR)
    assert before.id != after.id
    assert store.snapshots.get(before.id) == before


def test_revoked_and_outdated_corrections_are_not_in_it(store: Store) -> None:
    picture = image("a")
    store.predictions.add_many([(picture, prediction(picture))])
    old, new = correction(picture, "old"), correction(picture, "new")
    wrong = correction(picture, "wrong", polygon=box(50))
    store.corrections.add_many([old, new, wrong])
    store.corrections.revoke(wrong.id, "ann", "a slip")
    assert [m.correction for m in snapshot.take(store, Task.OCR).members] == [new.id]


def test_corrections_of_another_task_are_not_in_it(store: Store) -> None:
    picture = image("a")
    store.predictions.add_many([(picture, prediction(picture))])
    store.corrections.add_many([correction(picture, task=Task.CAPTION)])
    assert snapshot.take(store, Task.OCR).members == ()
    assert len(snapshot.take(store, Task.CAPTION).members) == 1


def test_every_author_of_a_caption_is_in_it_with_the_latest(store: Store) -> None:
    """An image may be described in several ways, each of which a caption may come near to."""
    picture = image("a")
    store.predictions.add_many([(picture, prediction(picture))])
    first, second, again = (
        correction(picture, text, author=author, task=Task.CAPTION)
        for text, author in (("a dog", "reference 1"), ("one dog", "reference 2"), ("the dog", "reference 1"))
    )
    store.corrections.add_many([first, second, again])
    members = snapshot.take(store, Task.CAPTION).members
    assert [(m.correction, m.text) for m in members] == [(second.id, "one dog"), (again.id, "the dog")]
    assert len({m.split for m in members}) == 1


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True, max_size=30))
def test_a_side_depends_on_the_group_alone(groups: list[str]) -> None:
    alone = {group: snapshot.side_of(group) for group in groups}
    assert {group: snapshot.side_of(group) for group in reversed(groups)} == alone


def test_an_image_posted_again_under_another_group_stays_on_its_side(store: Store) -> None:
    held = next(f"doc{n}" for n in range(99) if snapshot.side_of(f"doc{n}") is Split.HOLDOUT)
    trained = next(f"doc{n}" for n in range(99) if snapshot.side_of(f"doc{n}") is Split.TRAIN)
    store.predictions.add_many([(p := image("a", held), prediction(p))])
    store.predictions.add_many([(p := image("a", trained), prediction(p))])
    store.corrections.add_many([correction(image("a", trained))])
    [member] = snapshot.take(store, Task.OCR).members
    assert (member.group, member.split) == (held, Split.HOLDOUT)
