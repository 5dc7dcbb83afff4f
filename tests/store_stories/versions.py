"""Snapshots, versions, what is served, and experiments."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError
from store_parts import (
    box,
    correction,
    entry,
    experiment,
    image,
    prediction,
    verdict,
    version,
)

from redpencil import snapshot
from redpencil.errors import Conflict, NotFound
from redpencil.store import Store
from redpencil.types import (
    Outcome,
    ServingState,
    Split,
    Task,
    Variant,
)
from store_stories.told import TRAIN_GROUP, at_once, stored

# --- snapshots and versions


def test_a_snapshot_comes_back_as_it_was_taken(store: Store) -> None:
    pictures = [stored(store, str(n), f"doc{n}")[0] for n in range(12)]
    store.corrections.add_many([correction(p, f"line {p.group}") for p in pictures])
    frozen = snapshot.take(store, Task.OCR)
    assert store.snapshots.get(frozen.id) == frozen
    assert {m.split for m in frozen.members} == set(Split)
    assert store.snapshots.containing(frozen.members[0].correction) == [frozen.id]
    assert store.snapshots.containing("corr_x") == []
    with pytest.raises(NotFound):
        store.snapshots.get("0" * 64)


def test_the_same_snapshot_is_stored_once(store: Store) -> None:
    picture, _ = stored(store)
    store.corrections.add_many([correction(picture)])
    first = snapshot.take(store, Task.OCR)
    taken_at = store.snapshots.created_at(first.id)
    assert snapshot.take(store, Task.OCR) == first
    assert store.snapshots.created_at(first.id) == taken_at


def test_a_snapshot_of_corrections_that_are_not_here_is_refused_whole(store: Store) -> None:
    picture, _ = stored(store)
    store.corrections.add_many([correction(picture)])
    frozen = snapshot.take(store, Task.OCR)
    forged = replace(frozen, id="forged", members=(replace(frozen.members[0], correction="corr_x"),))
    with pytest.raises(NotFound, match="corr_x"):
        store.snapshots.put(forged)
    with pytest.raises(NotFound):
        store.snapshots.get("forged")


def test_a_version_is_added_once_and_never_becomes_another(store: Store) -> None:
    store.versions.add(version("1"))
    store.versions.add(version("1", created_at=2.0))
    assert store.versions.get("ocr", "1") == version("1")
    with pytest.raises(Conflict, match="ocr/1"):
        store.versions.add(version("1", bundle="another"))
    with pytest.raises(NotFound, match="ocr/9"):
        store.versions.get("ocr", "9")
    assert store.versions.find("ocr", "9") is None


def test_versions_are_listed_newest_first(store: Store) -> None:
    for n in range(1, 12):
        store.versions.add(version(str(n), created_at=float(n)))
    assert [v.version for v in store.versions.list("ocr")] == [str(n) for n in range(11, 0, -1)]


def test_every_version_that_learned_from_a_correction_is_known(store: Store) -> None:
    picture, _ = stored(store, group=TRAIN_GROUP)
    said, later = correction(picture), correction(picture, polygon=box(50))
    store.corrections.add_many([said])
    frozen = snapshot.take(store, Task.OCR)
    store.corrections.revoke(said.id, "ann", "wrong")
    store.corrections.add_many([later])
    without = snapshot.take(store, Task.OCR)
    learned = version("2", snapshot=frozen.id, parent="1", created_at=2.0)
    heir = version("3", snapshot=without.id, parent="2", created_at=3.0)
    fresh = version("4", snapshot=without.id, created_at=4.0)
    for v in (version("1"), learned, heir, fresh):
        store.versions.add(v)
    assert store.versions.learned_from(said.id) == [learned, heir]
    assert store.versions.learned_from(later.id) == [heir, fresh]
    known = {v.version: store.versions.learned_by("ocr", v.version) for v in (learned, heir, fresh)}
    assert known == {"2": {said.id}, "3": {said.id, later.id}, "4": {later.id}}
    assert store.versions.learned_by("ocr", "1") == set()
    assert store.versions.of_snapshot(without.id) == [heir, fresh]
    assert store.versions.grown_from("ocr", "2") == [heir]


def test_the_latest_verdict_counts(store: Store) -> None:
    store.versions.add(version("2"))
    assert store.versions.verdict("ocr", "2") is None
    store.versions.put_verdict("ocr", "2", verdict(Outcome.FAILED))
    store.versions.put_verdict("ocr", "2", verdict(Outcome.PASSED, champion="1", judged_at=3.0))
    assert store.versions.verdict("ocr", "2") == verdict(Outcome.PASSED, champion="1", judged_at=3.0)
    with pytest.raises(NotFound):
        store.versions.put_verdict("ocr", "9", verdict())


def test_the_latest_verdicts_of_all_versions_count_their_items(store: Store) -> None:
    for one in (version("1"), version("2"), version("3"), version("2", model="other")):
        store.versions.add(one)
    assert store.versions.verdicts("ocr") == {}
    none, odd = verdict(items={}), verdict(items={"corr_1": "fixed", 'a":"b': "still_right", "": "fixed"})
    store.versions.put_verdict("ocr", "1", odd)
    store.versions.put_verdict("ocr", "1", none)
    store.versions.put_verdict("ocr", "2", verdict(Outcome.FAILED))
    store.versions.put_verdict("ocr", "2", odd)
    store.versions.put_verdict("other", "2", verdict())
    assert store.versions.verdicts("ocr") == {"1": (none, 0), "2": (replace(odd, items={}), 3)}


# --- what is served


def test_a_change_of_what_is_served_and_its_ledger_entry_are_one(store: Store) -> None:
    assert store.serving.get("ocr") == ServingState("ocr")
    first = ServingState("ocr", 1, champion="1")
    second = ServingState("ocr", 2, champion="2", previous="1", challenger="3", weight=0.25, mirror=1.0)
    assert store.serving.change(first, entry("adopt", to_version="1")) == first
    assert store.serving.change(second, entry("promote")) == second
    assert store.serving.get("ocr") == second
    assert [e.action for e in store.ledger.list()] == ["promote", "adopt"]


@pytest.mark.parametrize("revision", [1, 2, 4])
def test_a_change_from_another_state_than_the_present_is_refused(store: Store, revision: int) -> None:
    store.serving.change(ServingState("ocr", 1, champion="1"), entry())
    store.serving.change(ServingState("ocr", 2, champion="2"), entry())
    with pytest.raises(Conflict, match="meanwhile"):
        store.serving.change(ServingState("ocr", revision, champion="9"), entry())
    assert store.serving.get("ocr").champion == "2"
    assert len(store.ledger.list()) == 2


def test_a_change_whose_ledger_entry_cannot_be_written_does_not_happen(store: Store) -> None:
    written = entry()
    store.serving.change(ServingState("ocr", 1, champion="1"), written)
    with pytest.raises(DBAPIError):
        store.serving.change(ServingState("ocr", 2, champion="2"), written)
    assert store.serving.get("ocr").champion == "1"


@pytest.mark.parametrize("before", [0, 3])
def test_of_eight_changes_at_once_one_wins_and_only_it_is_in_the_ledger(store: Store, before: int) -> None:
    for revision in range(1, before + 1):
        store.serving.change(ServingState("ocr", revision, champion="1"), entry())
    new = [ServingState("ocr", before + 1, champion=str(n)) for n in range(8)]
    results = at_once(lambda n: store.serving.change(new[n], entry(to_version=str(n))), 8)
    [winner] = [r for r in results if isinstance(r, ServingState)]
    assert store.serving.get("ocr") == winner
    entries = store.ledger.list()
    assert len(entries) == before + 1
    assert entries[0].to_version == winner.champion


def test_the_ledger_is_read_newest_first_in_pages(store: Store) -> None:
    written = [entry(id=f"led_{9 - n}", detail={"n": n}) for n in range(5)]
    for one in written:
        store.ledger.append(one)
    store.ledger.append(entry(model="other"))
    first = store.ledger.list("ocr", limit=3)
    assert first + store.ledger.list("ocr", after=first[-1].id, limit=3) == written[::-1]
    assert store.ledger.deployments("ocr", "2") == written


def test_replicas_that_fall_silent_are_not_listed(store: Store) -> None:
    store.replicas.beat("a", "ocr", 1, 3, "1", "2", None, None)
    store.replicas.beat("b", "ocr", 2, 3, "1", None, None, None)
    store.replicas.beat("b", "ocr", 2, 4, "2", None, "1", "no such bundle")
    store.replicas.beat("c", "other", 3, 1, None, None, None, None)
    a, b = store.replicas.list("ocr")
    assert (a["replica"], a["challenger"], a["error"]) == ("a", "2", None)
    assert (b["revision"], b["champion"], b["previous"], b["error"]) == (4, "2", "1", "no such bundle")
    time.sleep(0.05)
    assert store.replicas.list("ocr", fresh_s=0.01) == []


# --- experiments


def test_one_experiment_of_a_model_goes_on_at_a_time(store: Store) -> None:
    assert store.experiments.current("ocr") is None
    first, second = experiment(started_at=1.0), experiment(started_at=2.0)
    store.experiments.start(first)
    with pytest.raises(Conflict, match="going on"):
        store.experiments.start(second)
    assert store.experiments.current("ocr") == first
    ended = store.experiments.end(first.id, "challenger is better")
    assert store.experiments.end(first.id, "again") == ended
    assert ended.why == "challenger is better"
    store.experiments.start(second)
    assert store.experiments.list("ocr") == [second, ended]
    with pytest.raises(NotFound):
        store.experiments.get("exp_x")


def test_exposures_are_the_answers_by_assignment_since_the_start(store: Store) -> None:
    trial = experiment(started_at=100.0)
    store.experiments.start(trial)
    none = store.experiments.answers(trial.id)
    assert (none.keys, [len(ms) for ms in none.latencies_ms.values()]) == ({}, [0, 0])
    picture, other = image("a"), image("b")
    second: dict[str, Any] = {"version": "2", "variant": Variant.CHALLENGER}
    counted = [
        prediction(picture, created_at=101.0, latency_ms=10.0, revision=3),
        prediction(picture, created_at=101.0, latency_ms=30.0, revision=4, **second),
        prediction(picture, created_at=102.0, latency_ms=50.0, revision=4, **second, client_key="ann"),
        prediction(other, created_at=103.0, latency_ms=70.0, revision=4, client_key="ann"),
        prediction(other, created_at=104.0, latency_ms=90.0, revision=4),
        prediction(other, created_at=102.5, latency_ms=20.0, revision=4, **second),
    ]
    others = [
        prediction(picture, created_at=99.0),
        prediction(picture, created_at=101.0, variant=Variant.EXPLICIT),
        prediction(picture, created_at=101.0, version="7"),
        prediction(picture, created_at=101.0, model="other"),
        prediction(picture, created_at=101.0, version="2", variant=Variant.CHALLENGER, mirror_of="pred_1"),
    ]
    store.predictions.add_many(
        [(picture if p.image == picture.sha256 else other, p) for p in counted + others]
    )
    found = store.experiments.answers(trial.id)
    taken = {variant: sorted(ms) for variant, ms in found.latencies_ms.items()}
    assert taken == {"champion": [10.0, 70.0, 90.0], "challenger": [20.0, 30.0, 50.0]}
    assert found.keys == {("champion", 3): 1, ("challenger", 4): 2}


def test_the_clients_of_an_experiment_are_those_who_were_answered_while_it_went_on(store: Store) -> None:
    trial = experiment(started_at=100.0)
    picture = image("a")
    times = {"before": 99.9, "first": 100.0, "ann": 150.0, "": 151.0, "last": 200.0, "after": 200.1}
    asked = [prediction(picture, created_at=at, client_key=key) for key, at in times.items()]
    shadow = prediction(picture, created_at=150.0, mirror_of=asked[2].id)
    other = prediction(picture, created_at=150.0)
    store.predictions.add_many([(picture, p) for p in (*asked, shadow, other)])
    of = [*(p.id for p in asked), shadow.id, "pred_x"]
    assert list(store.experiments.clients(trial, of).values()) == ["first", "ann", "", "last", "after"]
    ended = replace(trial, ended_at=200.0)
    assert store.experiments.clients(ended, of) == {p.id: p.client_key for p in asked[1:5]}
    assert store.experiments.clients(ended, []) == {}
