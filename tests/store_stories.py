"""What the store promises, told once and held to on SQLite and PostgreSQL (a `store` fixture each).

`from store_stories import *` in a test module runs them all there.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select
from sqlalchemy import text as sql
from sqlalchemy.exc import DBAPIError
from store_parts import (
    about,
    block,
    box,
    correction,
    entry,
    experiment,
    image,
    prediction,
    run,
    verdict,
    version,
)

from redpencil import snapshot
from redpencil.errors import BadInput, Conflict, NotFound
from redpencil.store import Replay, Store, schema
from redpencil.store import idempotency as idempotency_module
from redpencil.types import (
    Correction,
    CorrectionState,
    Doubt,
    Image,
    Kind,
    Outcome,
    Prediction,
    RunState,
    ServingState,
    Split,
    Task,
    Variant,
)

TRAIN_GROUP = next(f"doc{n}" for n in range(99) if snapshot.side_of(f"doc{n}") is Split.TRAIN)
HOLDOUT_GROUP = next(f"doc{n}" for n in range(99) if snapshot.side_of(f"doc{n}") is Split.HOLDOUT)


def stored(
    store: Store, name: str = "a", group: str | None = None, **given: object
) -> tuple[Image, Prediction]:
    """An image with one prediction, kept."""
    picture = image(name, group)
    answer = prediction(picture, **given)
    [kept] = store.predictions.add_many([(picture, answer)])
    return kept, answer


def doubted(store: Store, *said: Correction, left_out: bool = True, **given: object) -> list[Doubt]:
    """What a new run thinks of corrections, the first the most suspect."""
    asked = run(**given)
    store.runs.add(asked)
    scores = [0.9 - 0.1 * n for n in range(len(said))]
    made = [
        Doubt(asked.id, c.id, time.time(), score, left_out, "") for c, score in zip(said, scores, strict=True)
    ]
    store.doubts.add_many(made)
    return made


def at_once(work: Callable[[int], object], workers: int) -> list[object]:
    """Results of `work` from threads that start together; an exception is a result."""
    start = threading.Barrier(workers)

    def one(n: int) -> object:
        start.wait()
        try:
            return work(n)
        except Conflict as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, range(workers)))


# --- the tables


def test_the_migrated_tables_are_those_that_the_code_knows(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []
        assert context.get_current_revision() == schema.REVISION


def test_partial_indexes_are_partial_in_the_database_too(store: Store) -> None:
    with store.engine.connect() as connection:
        place = "sqlite_master" if connection.dialect.name == "sqlite" else "pg_indexes"
        text, name = ("sql", "name") if connection.dialect.name == "sqlite" else ("indexdef", "indexname")
        for index in ("uq_runs_one_running", "uq_experiments_one_current", "ix_predictions_mirror_of"):
            definition = connection.execute(
                sql(f"SELECT {text} FROM {place} WHERE {name} = '{index}'")
            ).scalar_one()
            assert " WHERE " in definition


FROZEN = (
    *("corrections", "revocations", "ledger", "snapshots", "snapshot_members"),
    *("doubts", "confirmations"),
)


@pytest.mark.parametrize("table", FROZEN)
def test_what_was_said_cannot_be_changed_or_deleted(store: Store, table: str) -> None:
    picture, _ = stored(store)
    said = correction(picture)
    store.corrections.add_many([said])
    store.corrections.revoke(said.id, "ann", "a slip")
    store.corrections.add_many([correction(picture, polygon=box(50))])
    store.ledger.append(entry())
    snapshot.take(store, Task.OCR)
    doubted(store, said)
    store.doubts.confirm(said.id, "ann", "it is so")
    column = next(c.name for c in schema.metadata.tables[table].c if c.name not in ("n", "id"))
    for statement in (f'UPDATE {table} SET "{column}" = "{column}"', f"DELETE FROM {table}"):
        with pytest.raises(DBAPIError, match="only ever added"), store.engine.begin() as connection:
            connection.execute(sql(statement))


def test_an_image_cannot_be_moved_to_another_group(store: Store) -> None:
    stored(store)
    with pytest.raises(DBAPIError, match="only ever added"), store.engine.begin() as connection:
        connection.execute(sql("UPDATE images SET \"group\" = 'other'"))


# --- predictions


def test_a_prediction_comes_back_as_it_was_given(store: Store) -> None:
    blocks = (block(0, "naïve ಕನ್ನಡ", 0.75), block(1, "", 0.0))
    picture, answer = stored(store, blocks=blocks, client_key="k", request_id="r", revision=7)
    assert store.predictions.get(answer.id) == answer
    assert store.images.get(picture.sha256) == picture


def test_an_answer_without_any_block_is_kept_too(store: Store) -> None:
    _, answer = stored(store, blocks=())
    assert store.predictions.get(answer.id) == answer


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


def test_late_labels_of_versions_are_the_latest_for_each_region(store: Store) -> None:
    picture, answer = stored(store, version="2", blocks=(block(0), block(1)))
    old, new = about(answer, picture, text="old"), about(answer, picture, text="new")
    other = about(answer, picture, answer.blocks[1])
    unrelated = correction(picture, version="3", model="ocr")
    store.corrections.add_many([old, new, other, unrelated])
    assert set(store.corrections.for_versions("ocr", ["1", "2"], 0.0)) == {new, other}
    assert store.corrections.for_versions("ocr", ["2"], time.time() + 1) == []


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


# --- runs


def test_a_run_is_followed_from_queue_to_end(store: Store) -> None:
    asked = run(params={"steps": 3})
    store.runs.add(asked)
    assert store.runs.get(asked.id) == asked
    taken = store.runs.claim_next("ocr")
    assert taken is not None
    assert (taken.state, taken.attempts) == (RunState.RUNNING, 1)
    assert taken.started_at == pytest.approx(time.time(), abs=5)
    store.runs.update(asked.id, phase="train", progress={"step": 2}, pid=77)
    ended = store.runs.update(asked.id, state=RunState.SUCCEEDED, version="2", finished_at=9.0)
    assert (ended.phase, ended.progress, ended.version, ended.params) == (
        "train",
        {"step": 2},
        "2",
        {"steps": 3},
    )
    assert store.runs.get(asked.id) == ended


def test_a_field_that_a_run_does_not_have_is_refused(store: Store) -> None:
    asked = run()
    store.runs.add(asked)
    with pytest.raises(BadInput, match="colour"):
        store.runs.update(asked.id, colour="red")
    with pytest.raises(NotFound):
        store.runs.update("run_x", phase="train")


def test_the_oldest_queued_run_is_claimed_one_at_a_time_per_model(store: Store) -> None:
    first, second, other = run(created_at=1.0), run(created_at=2.0), run("captions", created_at=3.0)
    for asked in (second, first, other):
        store.runs.add(asked)
    claimed = store.runs.claim_next("ocr")
    assert claimed is not None
    assert claimed.id == first.id
    assert store.runs.claim_next("ocr") is None
    assert store.runs.claim_next("captions") is not None
    store.runs.update(first.id, state=RunState.FAILED)
    assert getattr(store.runs.claim_next("ocr"), "id", None) == second.id


def test_an_interrupted_run_keeps_its_first_start_and_counts_its_attempts(store: Store) -> None:
    asked = run()
    store.runs.add(asked)
    first = store.runs.claim_next("ocr")
    store.runs.update(asked.id, state=RunState.QUEUED)
    again = store.runs.claim_next("ocr")
    assert first is not None
    assert again is not None
    assert (again.attempts, again.started_at, again.pid) == (2, first.started_at, None)


def test_of_eight_claimers_one_gets_the_run(store: Store) -> None:
    for _ in range(3):
        store.runs.add(run())
    claims = at_once(lambda _: store.runs.claim_next("ocr"), 8)
    assert len([c for c in claims if c is not None]) == 1
    assert len(store.runs.list(states=[RunState.RUNNING])) == 1


def test_two_running_runs_of_one_model_are_a_conflict(store: Store) -> None:
    first, second = run(), run()
    store.runs.add(first)
    store.runs.add(second)
    store.runs.update(first.id, state=RunState.RUNNING)
    with pytest.raises(Conflict, match="another run"):
        store.runs.update(second.id, state=RunState.RUNNING)


def test_a_queued_run_is_cancelled_at_once_and_a_running_one_is_asked(store: Store) -> None:
    waiting, working = run(created_at=2.0), run(created_at=1.0)
    store.runs.add(waiting)
    store.runs.add(working)
    store.runs.claim_next("ocr")
    assert store.runs.cancel(waiting.id).state is RunState.CANCELLED
    asked = store.runs.cancel(working.id)
    assert (asked.state, asked.progress["cancel"]) == (RunState.RUNNING, True)
    store.runs.update(working.id, progress={"step": 5})
    assert store.runs.cancel_requested(working.id)
    assert store.runs.get(working.id).progress == {"step": 5, "cancel": True}
    store.runs.update(working.id, state=RunState.CANCELLED)
    with pytest.raises(Conflict, match="over"):
        store.runs.cancel(working.id)


def test_runs_are_listed_newest_first_in_pages(store: Store) -> None:
    asked = [run() for _ in range(5)]
    for one in asked:
        store.runs.add(one)
    first = store.runs.list("ocr", limit=3)
    rest = store.runs.list("ocr", limit=3, after=first[-1].id)
    assert first + rest == sorted(asked, key=lambda r: r.id, reverse=True)
    assert store.runs.list(states=[RunState.FAILED]) == []


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
    assert store.experiments.exposures(trial.id) == {"champion": 0, "challenger": 0}
    picture = image("a")
    counted = [
        prediction(picture, created_at=101.0, latency_ms=10.0),
        prediction(picture, created_at=101.0, latency_ms=30.0),
        prediction(picture, created_at=102.0, version="2", variant=Variant.CHALLENGER, latency_ms=50.0),
    ]
    others = [
        prediction(picture, created_at=99.0),
        prediction(picture, created_at=101.0, variant=Variant.EXPLICIT),
        prediction(picture, created_at=101.0, version="7"),
        prediction(picture, created_at=101.0, model="other"),
        prediction(picture, created_at=101.0, version="2", variant=Variant.CHALLENGER, mirror_of="pred_1"),
    ]
    store.predictions.add_many([(picture, p) for p in counted + others])
    assert store.experiments.exposures(trial.id) == {"champion": 2, "challenger": 1}
    assert store.experiments.latencies(trial.id) == {"champion": 20.0, "challenger": 50.0}
    assert [(a.variant, a.latency_ms) for a in store.experiments.answers(trial.id)] == [
        ("champion", 10.0),
        ("champion", 30.0),
        ("challenger", 50.0),
    ]


# --- idempotency


def test_the_same_request_gets_the_same_answer(store: Store) -> None:
    keys = store.idempotency
    assert keys.begin("k", "/v1/corrections", "hash") is None
    keys.finish("k", "/v1/corrections", 201, '{"id":"corr_1"}')
    assert keys.begin("k", "/v1/corrections", "hash") == Replay(201, '{"id":"corr_1"}')
    assert keys.begin("k", "/v1/other", "hash") is None


def test_the_same_key_with_another_body_is_refused(store: Store) -> None:
    store.idempotency.begin("k", "/", "hash")
    with pytest.raises(BadInput, match="another body"):
        store.idempotency.begin("k", "/", "other")


def test_a_request_in_flight_is_not_run_twice(store: Store) -> None:
    assert store.idempotency.begin("k", "/", "hash") is None
    with pytest.raises(Conflict, match="in flight"):
        store.idempotency.begin("k", "/", "hash")
    store.idempotency.abandon("k", "/")
    assert store.idempotency.begin("k", "/", "hash") is None


def test_of_eight_equal_requests_one_goes_on(store: Store) -> None:
    results = at_once(lambda _: store.idempotency.begin("k", "/", "hash"), 8)
    assert len([r for r in results if r is None]) == 1


def test_a_request_that_died_in_flight_is_taken_over_by_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.idempotency.begin("k", "/", "hash")
    monkeypatch.setattr(idempotency_module, "ABANDONED_S", 0.2)
    time.sleep(0.3)
    results = at_once(lambda _: store.idempotency.begin("k", "/", "hash"), 4)
    assert len([r for r in results if r is None]) == 1


def test_old_keys_can_be_forgotten(store: Store) -> None:
    store.idempotency.begin("k", "/", "hash")
    assert store.idempotency.forget(60) == 0
    assert store.idempotency.forget(-1) == 1


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


# --- doubts


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


def test_all_that_was_said_of_a_place_is_known(store: Store) -> None:
    picture, _ = stored(store)
    here = [correction(picture, text, polygon=box(5)) for text in ("one", "two", "three")]
    there = correction(picture, "four", polygon=box(50))
    store.corrections.add_many([*here, there])
    store.corrections.revoke(here[1].id, "ann", "a slip")
    assert store.corrections.history(Task.OCR) == {here[2].id: [here[0], here[2]], there.id: [there]}


# --- many at once


def test_many_threads_write_and_read_without_ever_failing(store: Store) -> None:
    """Same images in opposite orders, which a careless store answers with a deadlock."""
    pictures = [image(str(n)) for n in range(20)]

    def work(n: int) -> int:
        order = pictures if n % 2 else pictures[::-1]
        for _ in range(5):
            store.predictions.add_many([(p, prediction(p)) for p in order])
            store.predictions.uncorrected("ocr", 5)
        return n

    assert at_once(work, 8) == list(range(8))
    with store.engine.connect() as connection:
        assert (
            connection.execute(select(func.count()).select_from(schema.predictions)).scalar_one()
            == 8 * 5 * 20
        )
        assert connection.execute(select(func.count()).select_from(schema.images)).scalar_one() == 20


def test_a_database_is_migrated_once_however_many_start_together(empty_url: str) -> None:
    def start(_: int) -> int:
        with Store.open(empty_url, migrate=True) as opened:
            return len(opened.ledger.list())

    assert at_once(start, 4) == [0] * 4
