"""What runs doubt of corrections, and what of these is new to the next one."""

from __future__ import annotations

import pytest
from store_parts import (
    box,
    correction,
    image,
    run,
    version,
)

from redpencil import snapshot
from redpencil.errors import NotFound
from redpencil.store import Store
from redpencil.types import (
    Correction,
    CorrectionState,
    Doubt,
    Task,
)
from store_stories.told import TRAIN_GROUP, doubted, stored


def three(store: Store) -> list[Correction]:
    picture, _ = stored(store, group=TRAIN_GROUP)
    said = [correction(picture, polygon=box(30.0 * n), author=who) for n, who in enumerate("aab")]
    store.corrections.add_many(said)
    return said


def test_what_a_run_left_out_waits_for_a_person_the_most_suspect_first(store: Store) -> None:
    said = three(store)
    made = doubted(store, *said[:2])
    fine = doubted(store, said[2], left_out=False)
    assert store.doubts.suspects(Task.OCR) == list(zip(said, made, strict=False))
    assert [d for _, d in store.doubts.suspects(Task.OCR, every=True)] == [made[0], *fine, made[1]]
    assert (store.doubts.count(Task.OCR), store.doubts.count(Task.CAPTION)) == (2, 0)
    assert store.doubts.left_out(made[0].run) == {said[0].id, said[1].id}
    assert store.doubts.of_run(fine[0].run) == fine


def test_the_latest_run_that_looked_counts(store: Store) -> None:
    said = three(store)
    doubted(store, *said)
    again = doubted(store, said[0], left_out=False)
    assert store.doubts.latest()[said[0].id] == again[0]
    assert [c for c, _ in store.doubts.suspects(Task.OCR)] == said[1:]


def test_confirmed_revoked_or_corrected_anew_nobody_is_asked_again(store: Store) -> None:
    said = three(store)
    doubted(store, *said)
    store.doubts.confirm(said[0].id, "ann", "it is so")
    store.doubts.confirm(said[0].id, "bob", "indeed")
    store.corrections.revoke(said[1].id, "ann", "wrong line")
    picture = image("a", TRAIN_GROUP)
    store.corrections.add_many([correction(picture, "other", polygon=said[2].polygon)])
    assert store.doubts.suspects(Task.OCR) == []
    assert store.doubts.count(Task.OCR) == 0
    assert store.doubts.confirmation(said[0].id)["who"] == "ann"
    assert store.doubts.confirmed() == {said[0].id}
    assert said[0].id not in store.doubts.latest()
    assert store.doubts.settled(Task.OCR) == {"a": (1, 1)}
    with pytest.raises(NotFound):
        store.doubts.confirm("corr_x", "ann", "")


def test_a_version_did_not_learn_from_what_its_run_left_out(store: Store) -> None:
    said = three(store)
    frozen = snapshot.take(store, Task.OCR)
    [doubt] = doubted(store, said[0])
    store.versions.add(version("2", snapshot=frozen.id, run=doubt.run))
    assert store.versions.learned_from(said[0].id) == []
    assert [v.version for v in store.versions.learned_from(said[1].id)] == ["2"]
    states = store.corrections.state_of([c.id for c in said])
    assert states[said[0].id] is CorrectionState.SNAPSHOTTED
    assert states[said[1].id] is CorrectionState.TRAINED
    store.versions.add(version("3", snapshot=frozen.id, run=run().id))
    assert [v.version for v in store.versions.learned_from(said[0].id)] == ["3"]


def test_new_after_a_run_is_what_came_later_and_what_was_confirmed_after_all(store: Store) -> None:
    said = three(store)
    asked = run(snapshot=snapshot.take(store, Task.OCR).id)
    store.runs.add(asked)
    store.doubts.add_many([Doubt(asked.id, c.id, 1.0, 0.9, c is not said[2]) for c in said])

    def new() -> tuple[int, int]:
        return store.unlearned.count(Task.OCR, asked), store.unlearned.at_most(Task.OCR, asked)

    assert new() == (0, 0)
    for c in said[1:]:
        store.doubts.confirm(c.id, "ann", "it is so")
    assert new() == (1, 1)
    picture = image("a", TRAIN_GROUP)
    store.corrections.add_many([correction(picture, t, polygon=said[1].polygon) for t in ("one", "two")])
    assert new() == (1, 3), "of one place the latest"
    [last, *_] = store.corrections.list()
    store.corrections.revoke(last[0].id, "ann", "a slip")
    assert new() == (1, 2)
    store.corrections.add_many([correction(picture, polygon=said[0].polygon, created_at=1.0)])
    assert new() == (1, 3), "what was said before the word that holds"
    store.corrections.add_many([correction(picture, "a cat", task=Task.CAPTION)])
    assert new() == (1, 3)


def test_all_that_was_said_of_a_place_is_known(store: Store) -> None:
    picture, _ = stored(store)
    here = [correction(picture, text, polygon=box(5)) for text in ("one", "two", "three")]
    there = correction(picture, "four", polygon=box(50))
    store.corrections.add_many([*here, there])
    store.corrections.revoke(here[1].id, "ann", "a slip")
    assert store.corrections.history(Task.OCR) == {here[2].id: [here[0], here[2]], there.id: [there]}
