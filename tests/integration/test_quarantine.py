"""A run leaves out what is probably wrong, says so, and looks at each correction once."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_house

from redpencil.blobs import Blobs
from redpencil.errors import BadInput
from redpencil.ids import new_id
from redpencil.settings import Settings
from redpencil.snapshot import side_of
from redpencil.store import Store
from redpencil.suspects import Seen, Suspicion
from redpencil.types import ModelVersion, RunState, Split, Task
from training import model_card
from training.doubt import Sight
from training.freeze import freeze
from training.job import Job
from training.quarantine import quarantine
from training.reach import SHARES
from training.record import Record

LINES = 120


@pytest.fixture(autouse=True)
def _recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPENCIL_RECIPES", str(tiny_house.RECIPES))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return tiny_house.furnish(tmp_path, lines=LINES)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(settings.database) as opened:
        yield opened


def a_run(settings: Settings, store: Store, **params: object) -> Job:
    """The job of a new run, after it has looked at its corrections."""
    run = tiny_house.queue(settings, **params)
    job = freeze(store, store.runs.get(run), settings)
    return quarantine(job, store, Blobs.open(settings.blobs))


def spoil(store: Store, count: int = 2, start: int = 0, side: Split = Split.TRAIN) -> set[str]:
    """A line more of each of the first pages of a side, with the text of another page; their ids."""
    live = sorted(store.corrections.live(Task.OCR), key=lambda c: c.group)
    pages = [c for c in live if side_of(c.group) is side]
    made = [
        replace(c, id=new_id("corr"), polygon=c.polygon[:2] + tuple((x, y - 1) for x, y in c.polygon[2:]))
        for c in pages[start : start + count]
    ]
    made = [replace(c, text=pages[-n - 1].text, created_at=time.time()) for n, c in enumerate(made)]
    store.corrections.add_many(made)
    return {c.id for c in made}


def test_wrong_corrections_are_left_out_with_a_reason(settings: Settings, store: Store) -> None:
    wrong = spoil(store)
    job = a_run(settings, store)
    assert job.left_out == wrong
    assert not wrong & {m.correction for m in job.members}
    learned = job.lines(Blobs.open(settings.blobs))
    assert not wrong & {line.key for line in (*learned.learn, *learned.validate)}
    found = store.doubts.suspects(Task.OCR)
    assert {c.id for c, _ in found} == wrong
    assert all(doubt.why and doubt.run == job.run.id for _, doubt in found)
    record = Record.of(store, settings, job.run.id)
    assert {m.correction for m in record.taught} == {
        m.correction for m in job.members if m.split is Split.TRAIN
    }
    assert f"{len(wrong)} more were left out" in "\n".join(model_card.data(record))


def test_wrong_corrections_that_are_held_out_are_shown_and_go_on_judging(
    settings: Settings, store: Store
) -> None:
    wrong = spoil(store, 1, side=Split.HOLDOUT)
    job = a_run(settings, store)
    assert {c.id for c, _ in store.doubts.suspects(Task.OCR)} == wrong
    assert store.doubts.left_out(job.run.id) == wrong
    assert job.left_out == frozenset(), "nothing would have learned from it"
    assert wrong < {m.correction for m in job.snapshot.side(Split.HOLDOUT)}
    store.doubts.confirm(*wrong, "ann", "it is so")
    assert not wrong & {d.correction for d in store.doubts.of_run(a_run(settings, store).run.id)}


def test_how_far_a_run_may_go_is_kept_with_it(settings: Settings, store: Store) -> None:
    job = a_run(settings, store)
    assert job.reach in SHARES
    assert freeze(store, store.runs.get(job.run.id), settings).reach == job.reach


def test_the_way_is_measured_by_all_that_is_new_also_where_a_run_before_looked_at_it(
    settings: Settings, store: Store
) -> None:
    first = a_run(settings, store)
    again = a_run(settings, store)  # nothing was promoted: the same lines are new to it
    assert store.doubts.of_run(again.run.id) == []
    assert again.run.params["reach"] == first.run.params["reach"]


@pytest.mark.parametrize(("rendered", "far"), [(0, 0.4), (5, 1.0)])
def test_with_a_primer_the_whole_way_is_gone(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch, rendered: int, far: float
) -> None:
    monkeypatch.setattr("training.quarantine.see", lambda build, said, hyper: Sight([], 0.4))
    monkeypatch.setattr("training.data.primer", lambda hyper, lines, known: list(lines[:rendered]))
    assert a_run(settings, store).reach == far


def test_a_person_may_say_how_far_a_run_goes(settings: Settings, store: Store) -> None:
    assert a_run(settings, store, reach="0.3").reach == 0.3


@pytest.mark.parametrize("share", ["far", 0, 1.5])
def test_no_share_is_refused_in_words(settings: Settings, store: Store, share: object) -> None:
    with pytest.raises(BadInput, match="reach is a share"):
        a_run(settings, store, reach=share)


def test_a_run_taken_up_again_does_not_look_again(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(store)
    job = a_run(settings, store)
    monkeypatch.setattr("training.quarantine.see", None)
    assert quarantine(replace(job, left_out=frozenset()), store, Blobs.open(settings.blobs)) == job


def test_the_next_run_looks_only_at_what_is_new_or_waits_for_a_person(
    settings: Settings, store: Store
) -> None:
    first, second = sorted(spoil(store))
    a_run(settings, store)
    store.doubts.confirm(first, "ann", "it is so")
    (third,) = spoil(store, 1, start=5)
    job = a_run(settings, store)
    assert {d.correction for d in store.doubts.of_run(job.run.id)} == {second, third}
    assert first in {m.correction for m in job.members}


def test_a_family_that_cannot_judge_leaves_out_what_was_left_out_before(
    settings: Settings, store: Store
) -> None:
    wrong = spoil(store)
    before = a_run(settings, store)
    job = replace(before, parent=None, run=store.runs.get(tiny_house.queue(settings)))
    assert quarantine(job, store, Blobs.open(settings.blobs)).left_out == wrong
    assert [d.why for d in store.doubts.of_run(job.run.id)] == [
        d.why for d in store.doubts.of_run(before.run.id) if d.left_out
    ]


@pytest.mark.parametrize("said", [False, "false", "no"])
def test_a_person_may_have_everything_learned(settings: Settings, store: Store, said: bool | str) -> None:
    spoil(store)
    job = a_run(settings, store, doubt=said)
    assert (job.left_out, store.doubts.of_run(job.run.id)) == (frozenset(), [])


def test_how_far_a_run_goes_is_measured_whether_it_doubts_or_not(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.quarantine.see", lambda build, said, hyper: Sight([], 0.4))
    assert a_run(settings, store, doubt=False).reach == 0.4


def test_what_is_left_out_does_not_hang_on_held_out_texts(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[str]] = []

    def weighed(seen: Sequence[Seen], settled: object) -> list[Suspicion]:
        asked.append({s.correction for s in seen})
        return [Suspicion(s.correction, 0.1, "") for s in seen]

    monkeypatch.setattr("training.quarantine.weigh", weighed)
    job = a_run(settings, store)
    sides = [{m.correction for m in job.snapshot.side(side)} for side in (Split.TRAIN, Split.HOLDOUT)]
    train, held = sides
    assert held
    assert asked == [train, train | held]
    assert {d.correction for d in store.doubts.of_run(job.run.id)} == train | held


def test_not_more_than_a_fifth_is_left_out(settings: Settings, store: Store) -> None:
    spoil(store, 40)
    job = a_run(settings, store)
    assert len(job.left_out) <= len(job.snapshot.side(Split.TRAIN)) // 5


def known_by_a_version(job: Job, store: Store, settings: Settings) -> str:
    """A version that learned what the job would have learned."""
    bundle = store.versions.get(settings.model, "1").bundle
    made = ModelVersion(settings.model, "2", bundle, time.time(), "1", job.snapshot.id, job.run.id)
    store.versions.add(made)
    store.runs.update(job.run.id, state=RunState.FAILED)
    return made.version


def test_of_few_new_corrections_few_are_left_out_however_many_are_known(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = known_by_a_version(a_run(settings, store), store, settings)
    tiny_house.correct(store, Blobs.open(settings.blobs), 15, first=LINES)
    monkeypatch.setattr(
        "training.quarantine.weigh", lambda seen, _: [Suspicion(s.correction, 0.99, "odd") for s in seen]
    )
    job = a_run(settings, store, parent=parent)
    new = len(job.new) + len(job.left_out)
    assert (len(job.left_out), len(job.members) > 5 * new) == (new // 5, True)
    again = a_run(settings, store, parent=parent)
    assert again.left_out == job.left_out, "what waits for a person goes on waiting"


def test_what_the_parent_knows_is_not_looked_at(settings: Settings, store: Store) -> None:
    first = tiny_house.queue(settings, doubt=False)
    job = freeze(store, store.runs.get(first), settings)
    parent = known_by_a_version(job, store, settings)
    tiny_house.correct(store, Blobs.open(settings.blobs), 5, first=LINES)
    second = a_run(settings, store, parent=parent)
    looked = {d.correction for d in store.doubts.of_run(second.run.id)}
    side = second.snapshot.side(Split.HOLDOUT)
    assert looked == {m.correction for m in (*second.new, *side)}, "of those held out nothing is known"


def test_who_learned_another_text_by_heart_does_not_judge_the_new_one(
    settings: Settings, store: Store
) -> None:
    parent = known_by_a_version(a_run(settings, store), store, settings)
    live = [c for c in store.corrections.live(Task.OCR) if side_of(c.group) is Split.TRAIN]
    amended = [replace(c, id=new_id("corr"), text="bad cafe", created_at=time.time()) for c in live[:10]]
    store.corrections.add_many(amended)
    job = a_run(settings, store, parent=parent)
    assert {m.correction for m in job.new} == {c.id for c in amended}
    assert job.left_out == frozenset()
