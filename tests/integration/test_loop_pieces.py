"""The parts of training that need no Ray: what is kept of a model, how it is marked, what is told."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest
import tiny_bundle
import torch

from redpencil import patience
from redpencil.errors import Busy, Damaged, NotReady
from redpencil.types import Member, Snapshot, Split, Task
from training import model_card, priority, report, track
from training.crops import Line
from training.cycle import words
from training.data import Stock
from training.device import autocast, own_device
from training.follow import Follower, told
from training.freeze import nothing_to_learn
from training.frozen import Frozen
from training.hyper import Hyper
from training.job import Ended, learned, load, restore
from training.recipe import find
from training.record import Record
from training.track import dataset, numbers
from training.validate import mark

TEXTS = ["cab", "bad", "hello world"]
HISTORY = [
    {"epoch": 0, "step": 0, "at": 1.0, "val_loss": 3.0, "val_cer": 0.9, "val_wer": 1.0, "val_exact": 0.0},
    {"epoch": 1, "step": 20, "at": 2.0, "loss": 1.0, "val_loss": 0.5, "val_cer": 0.1, "val_wer": 0.2},
]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("REDPENCIL_RECIPES", str(Path(__file__).parents[1] / "recipes"))
    find("tiny")
    return sys.modules["training.recipes.tiny"]


def perfect(tiny: ModuleType) -> torch.nn.Module:
    """A model that reads punched tape without a fault: each row of the image is its own character."""
    model = tiny.Tiny(tiny_bundle.ALPHABET)
    with torch.no_grad():
        model.head.weight.copy_(torch.cat([torch.zeros(1, 27), 20 * torch.eye(27)]))
        model.head.bias.copy_(torch.tensor([5.0, *[0.0] * 27]))
    return model


def held(model: torch.nn.Module) -> Stock:
    return Stock(model, [Line(tiny_bundle.paint(t), t, t) for t in TEXTS], 1, 0.0, 0)


def test_a_model_that_reads_well_gets_good_marks(tiny: ModuleType) -> None:
    model = perfect(tiny)
    marks = mark(model, held(model))
    assert (marks.cer, marks.wer, marks.exact) == (0.0, 0.0, 1.0)
    assert marks.loss < 1


def test_an_untrained_model_gets_bad_marks(tiny: ModuleType) -> None:
    model = tiny.Tiny(tiny_bundle.ALPHABET)
    assert mark(model, held(model)).exact == 0.0


def test_nothing_held_means_no_marks(tiny: ModuleType) -> None:
    model = perfect(tiny)
    assert mark(model, Stock(model, [], 1, 0.0, 0)) is None


def test_only_what_was_learned_is_kept_and_put_back(tiny: ModuleType, tmp_path: Path) -> None:
    model = perfect(tiny)
    assert set(learned(model)) == {"head.weight", "head.bias"}
    torch.save({"model": learned(model), "alphabet": list(model.alphabet)}, tmp_path / "state.pt")
    fresh = tiny.Tiny(tiny_bundle.ALPHABET)
    restore(fresh, load(tmp_path / "state.pt"))
    features = Frozen(model).of(tiny_bundle.paint("cab"))[None]
    assert torch.equal(fresh.eval()(features)[0], model.eval()(features)[0])


def test_a_checkpoint_with_another_alphabet_is_refused(tiny: ModuleType) -> None:
    model = perfect(tiny)
    with pytest.raises(Damaged, match="alphabet"):
        restore(tiny.Tiny(("a", "b")), {"model": learned(model), "alphabet": list(model.alphabet)})


def test_a_checkpoint_that_carries_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model": Ended("done")}, tmp_path / "state.pt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load(tmp_path / "state.pt")


def test_a_gpu_is_taken_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert own_device().index == 0  # without a number torch.cuda.set_device refuses it
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device() == torch.device("cpu")


def test_fp32_recipes_are_never_rounded() -> None:
    with autocast(torch.device("cpu"), Hyper(precision="fp32")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32


def test_a_snapshot_is_listed_with_its_digest_and_its_sides() -> None:
    members = tuple(
        Member(f"corr_{i}", "img", f"doc_{i}", 0, (), "text", split)
        for i, split in enumerate([Split.TRAIN, Split.TRAIN, Split.HOLDOUT])
    )
    listed = dataset(Snapshot("ab" * 32, Task.OCR, members))
    assert listed.digest == "ab" * 16
    assert listed.profile == '{"corrections": 3, "groups": 3, "train": 2, "holdout": 1}'


def test_numbers_are_found_however_deep() -> None:
    scores = {"golden": {"cer": {"champion": 0.1, "candidate": None}, "lines": 3}, "note": "x"}
    assert numbers(scores) == {"golden/cer/champion": 0.1, "golden/lines": 3.0}


def test_progress_is_told_with_the_time_left() -> None:
    progress = {
        "epoch": 2,
        "epochs": 8,
        "step": 70,
        "steps": 400,
        "loss": 0.1234,
        "val_cer": 0.05,
        "eta_s": 95.2,
    }
    assert told(progress) == "epoch 2/8  loss 0.123  CER 5.00%  1:35 left"


class Runs:
    """Runs of which a cancelled one is asked to stop, in a database that may be away."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.away: Exception | None = None
        self.unreadable = False

    def update(self, run: str, progress: object) -> None:
        if self.away:
            raise self.away
        self.told.append(progress)

    def cancel_requested(self, run: str) -> bool:
        if self.away and self.unreadable:
            raise self.away
        return True


@pytest.mark.parametrize("away", [Busy("locked"), NotReady("no connection")])
def test_a_database_that_is_away_ends_no_run(away: Exception, caplog: pytest.LogCaptureFixture) -> None:
    runs = Runs()
    follower = Follower(cast(Any, SimpleNamespace(runs=runs)), "run_1", cast(Any, None))
    runs.away, runs.unreadable = away, True
    assert not follower.step({"step": 1})
    assert str(away) in caplog.text
    assert not follower.step({"step": 2}), "it is left alone for a while"
    runs.unreadable, follower.next_at = False, 0.0
    assert follower.step({"step": 3}), "what can be read is heard"
    runs.away, follower.next_at = None, 0.0
    assert follower.step({"step": 4})
    assert runs.told == [{"step": 4}]


def test_what_stays_away_is_waited_for_no_longer_than_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, tries = [0.0], list[float]()
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(patience, "time", clock)

    def call() -> None:
        tries.append(now[0])
        now[0] += 500 if len(tries) == 1 else 0  # it had worked for long before it was refused
        raise Busy("locked")

    with pytest.raises(NotReady, match=r"locked\. What the run has done is kept: Resume"):
        track.patiently(call)
    assert tries == [0.0, *(500.0 + n for n in range(1, 61))]
    assert caplog.text.count("waiting, for 60 s at most: locked") == 1


def test_the_learning_curve_is_a_picture() -> None:
    assert report.curve(HISTORY).startswith(b"\x89PNG")


def test_the_curves_of_a_captioner_show_what_chooses_it() -> None:
    lines = ["loss", "error rate on validation lines"]
    assert list(report.panels(HISTORY)) == lines
    marked = [r | {"val_cider_d": 0.5 * r["epoch"], "val_bleu4": 0.1} for r in HISTORY]
    shown = report.panels(marked)
    assert list(shown) == [*lines, "likeness to validation texts"]
    assert shown["likeness to validation texts"]["CIDEr-D"] == [(0, 0.0), (20, 0.5)]
    assert cv2.imdecode(np.frombuffer(report.curve(marked), np.uint8), cv2.IMREAD_COLOR).shape[1] == 1200


def test_what_is_known_by_heart_is_not_called_validation() -> None:
    history = [{k.replace("val_", "heart_"): v for k, v in r.items()} for r in HISTORY]
    assert list(report.panels(history)) == ["loss", "error rate on learned lines"]
    told = "\n".join(model_card.results(Record(None, None, None, None, history)))
    assert "| step | loss | heart_loss | heart_cer | heart_wer | heart_exact |" in told
    assert "No text was set aside" in told
    assert "Validation" not in told


def test_the_card_has_what_captions_are_chosen_by() -> None:
    history = [r | {"val_cider_d": 0.5, "val_bleu4": 0.25} for r in HISTORY]
    told = "\n".join(model_card.results(Record(None, None, None, None, history)))
    assert "| val_exact | val_bleu4 | val_cider_d |" in told
    assert "| 0.2500 | 0.5000 |" in told
    assert "set aside" not in told


def test_the_best_epoch_is_named() -> None:
    assert Ended("done", history=HISTORY, best_epoch=1).best["val_cer"] == 0.1


def test_the_table_shows_what_changed_and_escapes_what_was_read() -> None:
    line = np.zeros((10, 40, 3), np.uint8)
    shown = [report.Sample(line, "corr_1", "holdout", "a<b", "a<c", "a<b")]
    page = report.table(shown)
    assert 'class="wrong">a&lt;c (1 wrong)' in page
    assert 'class="right">a&lt;b' in page
    assert "<td>-" in report.table([report.Sample(line, "corr_1", "train", "x", None, "x")])


def test_nothing_to_learn_from_says_what_to_do() -> None:
    assert "correct some lines" in nothing_to_learn(0)
    assert "all 3 corrections are of images that are held out" in nothing_to_learn(3)


def test_an_unexpected_error_keeps_its_kind() -> None:
    assert words(ZeroDivisionError("division by zero")) == "ZeroDivisionError: division by zero"


def stood_behind(alone: bool) -> list[str]:
    """What a process that yields says: its policy, and where its session stands ("False": nowhere)."""
    code = (
        "from training.priority import *\n"
        "print(yield_to_others(), AUTOGROUP.exists() and AUTOGROUP.read_text())"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, start_new_session=alone, capture_output=True, text=True, check=True
    ).stdout.split()


def test_training_stands_behind_others_also_where_sessions_share_the_processor() -> None:
    said = stood_behind(alone=True)
    assert said[0] in ("idle", "nice")
    assert said[1:] in (["False"], []) or said[-2:] == ["nice", "19"]


def test_a_session_that_others_share_keeps_its_place() -> None:
    def of_ours() -> list[str]:
        return priority.AUTOGROUP.read_text().split() if priority.AUTOGROUP.exists() else ["False"]

    before = of_ours()
    assert stood_behind(alone=False)[1:] == before == of_ours()
