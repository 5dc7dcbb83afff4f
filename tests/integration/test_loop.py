"""The loop in its own process and on a real Ray, with a recipe of some hundred parameters."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest
import ray
import tiny_house

from redpencil.blobs import Blobs
from redpencil.errors import RedpencilError
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Split
from training import data, schedule, workers
from training.freeze import freeze
from training.frozen import Frozen
from training.job import Job, load, restore
from training.schedule import Patience


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDPENCIL_RECIPES", str(tiny_house.RECIPES))
        yield tiny_house.furnish(tmp_path_factory.mktemp("home"), lines=90)


@pytest.fixture(scope="module")
def two(settings: Settings) -> Iterator[Settings]:
    """The same with two workers, and a Ray for them."""
    with workers.cluster(settings):
        yield settings.model_copy(update={"train_workers": 2})


def job(settings: Settings, **params: object) -> Job:
    run = tiny_house.queue(settings, **params)
    with Store.open(settings.database) as store:
        made = freeze(store, store.runs.get(run), settings)
        store.runs.update(run, state="failed")  # one at a time may be running
        return made


def test_it_learns_and_keeps_the_best_checkpoint(settings: Settings) -> None:
    made = job(settings)
    ended = workers.fit(made)
    assert (ended.how, [r["epoch"] for r in ended.history]) == ("done", [0, 1, 2, 3, 4])
    assert ended.history[0]["val_cer"] > 0.5
    assert ended.best["val_cer"] == min(r["val_cer"] for r in ended.history) < 0.05
    assert ended.best["val_exact"] > 0.9
    assert reads(made, "hello world") == "hello world"


def reads(made: Job, text: str) -> str:
    blobs = Blobs.open(made.settings.blobs)
    model = made.build(blobs, made.lines(blobs))
    restore(model, load(made.folder / workers.BEST))
    return data.read(model, [Frozen(model).of(tiny_house.tiny_bundle.paint(text))])[0].text


@pytest.mark.parametrize("count", [0, 2])
def test_some_checkpoints_outlive_their_run_and_say_what_they_are(two: Settings, count: int) -> None:
    made = job(two.model_copy(update={"train_workers": count}), keep_every=2)
    ended = workers.fit(made)
    workers.forget(made.settings, made.run.id)
    assert not Path(made.settings.storage, made.run.id).exists()
    kept = made.settings.home / "checkpoints" / made.run.id
    names = ["epoch-0002.json", "epoch-0002.pt", "epoch-0004.json", "epoch-0004.pt"]
    assert sorted(file.name for file in kept.iterdir()) == names
    told = json.loads((kept / names[0]).read_text("utf-8"))
    assert (told["recipe"], told["parent"], told["epoch"], told["step"]) == ("tiny", "1", 2, 40)
    assert told["hyper"] == made.hyper.to_dict()
    assert told["scores"]["val_cer"] == ended.history[2]["val_cer"]
    blobs = Blobs.open(made.settings.blobs)
    restore(made.build(blobs, made.lines(blobs)), load(kept / names[1]))
    best = json.loads((made.folder / "best.json").read_text("utf-8"))
    assert (best["epoch"], best["scores"]["val_cer"]) == (ended.best_epoch, ended.best["val_cer"])


@pytest.mark.parametrize("known", [False, True])
def test_a_script_that_is_new_is_learned_faster_and_said_so(settings: Settings, known: bool) -> None:
    asked = job(settings, steps=20, passes=0, primer=8)
    members = tuple(replace(m, text="ಬದುಕು") for m in asked.snapshot.members)
    met = frozenset(m.correction for m in asked.members[1:]) if known else frozenset()
    made = replace(asked, snapshot=replace(asked.snapshot, members=members), known=met)
    (rate,) = (epoch["lr"] for epoch in workers.fit(made).history[1:])
    assert (made.suited.lr, made.about["hyper"]["lr"]) == ((0.5, 0.5) if known else (1.0, 1.0))
    anew = replace(made, known=frozenset(m.correction for m in made.members))
    assert anew.suited.lr == 0.5, "where nothing is new the parent knows the script"
    assert rate == pytest.approx(schedule.rate(made.suited, 19, 20, Patience(0)) * made.suited.lr)


def test_it_stops_when_it_no_longer_gets_better(settings: Settings) -> None:
    ended = workers.fit(job(settings, lr=1e-9, steps=400, report_every=10, patience=2))
    assert ended.how == "done"
    assert len(ended.history) < 20


def test_a_loss_that_is_no_number_ends_the_run_with_advice(settings: Settings) -> None:
    ended = workers.fit(job(settings, lr=1e38))
    assert ended.how == "failed"
    assert "lower learning rate" in ended.why


def test_accumulated_small_batches_learn_like_one_large(settings: Settings) -> None:
    small = workers.fit(job(settings, batch=4, accumulate=2))
    assert small.best["val_cer"] < 0.05


def test_a_cancelled_run_ends_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made = job(settings, steps=100_000)
    with Store.open(settings.database) as store:
        store.runs.update(made.run.id, state="running")
        Timer(4.0, store.runs.cancel, [made.run.id]).start()
        ended = workers.fit(made)
        store.runs.update(made.run.id, state="failed")
        progress = store.runs.get(made.run.id).progress
    assert ended.how == "cancelled"
    assert progress["step"] < progress["steps"] == 100_000
    assert progress["eta_s"] > 0


def test_what_a_run_alone_dies_of_is_raised(settings: Settings) -> None:
    made = job(settings)
    with pytest.raises(ValueError, match="'much'"):
        workers.fit(replace(made, hyper=replace(made.hyper, clip="much")))


def test_workers_that_keep_crashing_are_told_by_their_last_words(two: Settings) -> None:
    made = job(two.model_copy(update={"train_workers": 1}))
    nonsense = replace(made, hyper=replace(made.hyper, clip="much"))
    with pytest.raises(RedpencilError, match=r"failed 3 times, the last time with ValueError: .*'much'"):
        workers.fit(nonsense)


def test_a_line_whose_image_is_lost_ends_the_run_at_once(settings: Settings) -> None:
    made = job(settings)
    line = replace(made.snapshot.members[0], image="0" * 64, split=Split.TRAIN)
    ended = workers.fit(replace(made, snapshot=replace(made.snapshot, members=(line,))))
    assert ended.how == "failed"
    assert "0000" in ended.why


def test_two_workers_divide_the_work_and_learn_as_well(two: Settings) -> None:
    made = job(two)
    ended = workers.fit(made)
    assert ended.machine["workers"] == "2"
    assert ended.best["val_cer"] < 0.05
    assert Path(made.folder, workers.BEST).exists()


@pytest.mark.parametrize(
    ("gpus", "count", "each", "told"), [(0, 2, False, 0), (1, 2, False, 1), (2, 2, True, 0), (4, 0, False, 0)]
)
def test_workers_that_would_have_too_few_gpus_use_none_and_say_so(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    gpus: int,
    count: int,
    each: bool,
    told: int,
) -> None:
    monkeypatch.setattr(
        ray, "cluster_resources", lambda: {"CPU": 8.0} | ({"GPU": float(gpus)} if gpus else {})
    )
    assert workers.a_gpu_each(count) is each
    assert len([r for r in caplog.records if "train on CPUs" in r.message]) == told
