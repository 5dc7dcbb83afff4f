"""Corrections, and their states."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from store_parts import (
    about,
    block,
    box,
    correction,
    entry,
    image,
    version,
)

from redpencil import snapshot
from redpencil.errors import Conflict, NotFound
from redpencil.store import Store
from redpencil.types import (
    CorrectionState,
    Kind,
    Task,
)
from store_stories.told import HOLDOUT_GROUP, TRAIN_GROUP, at_once, stored

# --- corrections


def test_a_correction_comes_back_as_it_was_given(store: Store) -> None:
    picture, answer = stored(store)
    said = about(answer, picture, kind=Kind.BLIND, audit_probability=0.125, text="ſchön")
    store.corrections.add_many([said])
    assert store.corrections.get(said.id) == said
    with pytest.raises(NotFound):
        store.corrections.get("corr_x")


def test_a_correction_belongs_to_the_group_of_its_image(store: Store) -> None:
    picture, _ = stored(store, "a", "first")
    said = correction(picture, group="invented")
    store.corrections.add_many([said])
    assert store.corrections.get(said.id).group == "first"


def test_a_correction_of_an_unknown_image_is_refused_with_all_beside_it(store: Store) -> None:
    picture, _ = stored(store)
    with pytest.raises(NotFound, match="not known"):
        store.corrections.add_many([correction(picture), correction(image("never seen"))])
    assert store.corrections.list() == []


def test_an_image_can_be_known_without_a_prediction(store: Store) -> None:
    picture = image("imported", "box 7")
    assert store.images.add_many([picture, replace(picture, group="other")]) == [picture, picture]
    store.corrections.add_many([correction(picture)])
    assert len(store.corrections.list(image=picture.sha256)) == 1


def test_a_correction_cannot_be_overwritten(store: Store) -> None:
    picture, _ = stored(store)
    said = correction(picture, "the")
    store.corrections.add_many([said])
    with pytest.raises(Conflict, match=said.id):
        store.corrections.add_many([replace(said, text="other")])
    assert store.corrections.get(said.id).text == "the"


def test_corrections_are_listed_newest_first_in_pages(store: Store) -> None:
    picture, _ = stored(store)
    said = [correction(picture, str(n)) for n in range(5)]
    store.corrections.add_many(said)
    first = store.corrections.list(limit=2)
    second = store.corrections.list(limit=2, after=first[-1][0].id)
    third = store.corrections.list(limit=2, after=second[-1][0].id)
    assert [c for c, _ in first + second + third] == said[::-1]
    with pytest.raises(NotFound, match="go on after"):
        store.corrections.list(after="corr_x")


def test_corrections_are_found_by_what_is_known_of_them(store: Store) -> None:
    picture, answer = stored(store)
    other, _ = stored(store, "b")
    mine = about(answer, picture, author="bob")
    store.corrections.add_many([mine, correction(other)])
    for given in ({"author": "bob"}, {"image": picture.sha256}, {"prediction": answer.id}):
        assert [c for c, _ in store.corrections.list(**given)] == [mine]
    assert len(store.corrections.list(task=Task.OCR)) == 2
    assert store.corrections.list(task=Task.CAPTION) == []


def test_of_many_who_add_to_what_they_saw_of_a_line_one_does(store: Store) -> None:
    picture, answer = stored(store)

    def add(n: int) -> bool:
        with store.transaction():
            if store.corrections.last_word(answer.id, "p0-b0") is not None:
                return False
            store.corrections.add_many([about(answer, picture, text=f"text {n}")])
            return True

    assert sorted(map(str, at_once(add, 6))) == ["False"] * 5 + ["True"]
    (said,) = (c for c, _ in store.corrections.list())
    assert store.corrections.last_word(answer.id, "p0-b0") == said
    store.corrections.revoke(said.id, "ann", "slip")
    assert store.corrections.last_word(answer.id, "p0-b0") is None


def test_revoking_twice_keeps_the_first_reason(store: Store) -> None:
    picture, _ = stored(store)
    said = correction(picture)
    store.corrections.add_many([said])
    assert store.corrections.revocation(said.id) is None
    store.corrections.revoke(said.id, "ann", "a slip")
    store.corrections.revoke(said.id, "bob", "no idea")
    assert store.corrections.revocation(said.id)["who"] == "ann"
    with pytest.raises(NotFound):
        store.corrections.revoke("corr_x", "ann", "")


def test_of_several_corrections_of_one_place_the_latest_lives(store: Store) -> None:
    picture, _ = stored(store)
    old = correction(picture, "old", polygon=box(10.2))
    new = correction(picture, "new", polygon=box(10.4))
    elsewhere = correction(picture, "elsewhere", polygon=box(12.0))
    store.corrections.add_many([old, new, elsewhere])
    assert store.corrections.live(Task.OCR) == [new, elsewhere]
    store.corrections.revoke(new.id, "ann", "a slip")
    assert store.corrections.live(Task.OCR) == [old, elsewhere]


def test_of_corrections_made_in_one_instant_the_one_stored_last_lives(store: Store) -> None:
    picture, _ = stored(store)
    first, last = (
        correction(picture, t, id=i, created_at=5.0) for t, i in (("1st", "corr_b"), ("2nd", "corr_a"))
    )
    store.corrections.add_many([first, last])
    assert store.corrections.live(Task.OCR) == [last]


def test_new_corrections_are_counted_but_not_the_revoked(store: Store) -> None:
    picture, _ = stored(store)
    said = [correction(picture, created_at=float(n)) for n in range(5)]
    store.corrections.add_many(said)
    store.corrections.revoke(said[4].id, "ann", "a slip")
    assert store.corrections.count_since(Task.OCR, 1.0) == 2
    assert store.corrections.count_since(Task.CAPTION, 0.0) == 0


def test_late_labels_of_versions_are_all_that_was_said(store: Store) -> None:
    picture, answer = stored(store, version="2", blocks=(block(0), block(1)))
    old, new = about(answer, picture, text="old"), about(answer, picture, text="new")
    other = about(answer, picture, answer.blocks[1])
    unrelated = correction(picture, version="3", model="ocr")
    store.corrections.add_many([old, new, other, unrelated])
    assert set(store.corrections.for_versions("ocr", ["1", "2"], 0.0)) == {old, new, other}
    assert store.corrections.for_versions("ocr", ["2"], time.time() + 1) == []


def test_what_is_said_of_some_images_in_captions_is_known(store: Store) -> None:
    pictures = [stored(store, name)[0] for name in "abc"]
    said = [correction(p, str(n), task=Task.CAPTION) for n in range(2) for p in pictures]
    store.corrections.add_many([*said, correction(pictures[0])])
    store.corrections.revoke(said[3].id, "ann", "a slip")
    found = store.corrections.captions_of({p.sha256 for p in pictures[:2]})
    assert [c for c in found if c.image == pictures[0].sha256] == [said[0]]
    assert [c for c in found if c.image == pictures[1].sha256] == [said[1], said[4]], "oldest first"
    assert len(found) == 3
    assert store.corrections.captions_of([]) == []


def test_whoever_asks_for_captions_and_adds_one_is_alone_with_them(store: Store) -> None:
    picture, _ = stored(store)

    def add(_: int) -> int:
        with store.transaction():
            there = len(store.corrections.captions_of([picture.sha256]))
            store.corrections.add_many([correction(picture, task=Task.CAPTION)])
            return there

    assert sorted(at_once(add, 8)) == list(range(8))


# --- the states of a correction


def test_a_correction_comes_from_submitted_to_deployed(store: Store) -> None:
    picture, _ = stored(store, group=TRAIN_GROUP)
    said = correction(picture)
    store.corrections.add_many([said])

    def state() -> CorrectionState:
        [(_, listed)] = store.corrections.list()
        assert store.corrections.state_of([said.id]) == {said.id: listed}
        assert store.corrections.list(state=listed) == [(said, listed)]
        return listed

    assert state() is CorrectionState.SUBMITTED
    frozen = snapshot.take(store, Task.OCR)
    assert state() is CorrectionState.SNAPSHOTTED
    store.versions.add(version("2", snapshot=frozen.id, parent="1"))
    assert state() is CorrectionState.TRAINED
    store.ledger.append(entry("refuse", to_version="2"))
    store.ledger.append(entry("promote", to_version="2", model="other"))
    assert state() is CorrectionState.TRAINED
    store.ledger.append(entry("promote", to_version="2"))
    assert state() is CorrectionState.DEPLOYED
    store.corrections.revoke(said.id, "ann", "a slip")
    assert state() is CorrectionState.REVOKED
    assert store.corrections.list(state=CorrectionState.DEPLOYED) == []


def test_a_holdout_correction_is_never_trained(store: Store) -> None:
    picture, _ = stored(store, group=HOLDOUT_GROUP)
    said = correction(picture)
    store.corrections.add_many([said])
    frozen = snapshot.take(store, Task.OCR)
    store.versions.add(version("2", snapshot=frozen.id))
    store.ledger.append(entry("promote", to_version="2"))
    assert store.corrections.state_of([said.id]) == {said.id: CorrectionState.SNAPSHOTTED}
    assert store.versions.learned_from(said.id) == []


@pytest.mark.parametrize("action", ["promote", "rollback", "override", "adopt"])
def test_each_way_to_become_champion_deploys(store: Store, action: str) -> None:
    picture, _ = stored(store, group=TRAIN_GROUP)
    said = correction(picture)
    store.corrections.add_many([said])
    store.versions.add(version("2", snapshot=snapshot.take(store, Task.OCR).id))
    store.ledger.append(entry(action, to_version="2"))
    assert store.corrections.state_of([said.id]) == {said.id: CorrectionState.DEPLOYED}
