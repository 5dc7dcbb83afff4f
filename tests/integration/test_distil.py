"""A small reader learns from what the big one says, and is kept as what `crnn` starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from redpencil.decode import ctc_greedy
from redpencil.metrics import distance
from training import distil, packs, teacher
from training.data import batched
from training.distil import HYPER, Pupil, distillation_loss
from training.recipes import crnn
from training.rough import rough
from training.teacher import KEPT, Lesson, Teacher
from training.texts import Lexicon


@pytest.fixture(scope="module")
def taught() -> Teacher:
    return Teacher()


@pytest.fixture(scope="module")
def rendered(taught: Teacher) -> list[Lesson]:
    """A dozen lines in a font that comes with matplotlib, the teacher asked about eight of them."""
    import matplotlib

    font = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    drawn = frozenset(map(chr, range(32, 0x180)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher, "installed", lambda: [(font, drawn)])
        patch.setattr(packs, "lexicon", lambda: Lexicon(english=()))
        return list(teacher.lessons(taught, count=12, heard=8, seed=3))


def test_a_teacher_says_what_is_written(taught: Teacher, rendered: list[Lesson]) -> None:
    heard = [lesson for lesson in rendered if len(lesson.classes)]
    assert len(heard) == 8
    read = [
        ctc_greedy(x.classes[:, 0].astype(np.int64), x.shares[:, 0].astype(np.float32), taught.alphabet).text
        for x in heard
    ]
    assert sum(text == x.text for text, x in zip(read, heard, strict=True)) >= 6, read


def test_roughened_lines_can_still_be_read(taught: Teacher, rendered: list[Lesson]) -> None:
    rng, wrong, wanted = np.random.default_rng(0), 0, 0
    for lesson in rendered * 3:
        line = rough(lesson.image, rng)
        assert line.dtype == np.uint8
        assert line.shape[0] >= 8
        assert line.shape[2] == 3
        classes, shares = taught.says(line)
        read = ctc_greedy(classes[:, 0].astype(np.int64), shares[:, 0].astype(np.float32), taught.alphabet)
        wrong, wanted = wrong + distance(lesson.text, read.text), wanted + len(lesson.text)
    assert wrong < 0.15 * wanted


def test_lessons_come_back_as_they_were_written(
    taught: Teacher, rendered: list[Lesson], tmp_path: Path
) -> None:
    teacher.write(tmp_path / "lines.zip", taught.alphabet, iter(rendered))
    alphabet, again = teacher.load(tmp_path / "lines.zip")
    assert alphabet == taught.alphabet
    for one, other in zip(again, rendered, strict=True):
        assert (one.data, one.text) == (other.data, other.text)
        assert np.array_equal(one.classes, other.classes)
        assert np.array_equal(one.shares, other.shares)


def test_who_says_the_same_in_the_same_places_is_not_apart() -> None:
    said = torch.tensor([[0, 1, 2, 3], [2, 0, 1, 3], [0, 1, 2, 3]]), torch.tensor([[1.0, 0, 0, 0]] * 3)
    silent = torch.zeros(0, KEPT, dtype=torch.long), torch.zeros(0, KEPT)

    def logp(classes: list[int]) -> torch.Tensor:
        rows = torch.full((len(classes), 5), -20.0)
        rows[torch.arange(len(classes)), torch.tensor(classes)] = 0.0
        return rows.log_softmax(-1)

    def of(classes: list[int]) -> float:
        return float(distillation_loss(logp(classes)[None], torch.tensor([len(classes)]), [said]))

    assert of([0, 2, 0]) < 1e-6
    assert of([0, 2, 2, 0]) < 1e-6, "steps that are denser are compared where they lie"
    assert of([0, 1, 0]) > of([0, 2, 1]) > 3, "a letter counts more than a blank"
    both = torch.stack([logp([0, 2, 0]), logp([3, 3, 3])])
    assert float(distillation_loss(both, torch.tensor([3, 3]), [said, silent])) < 1e-6, (
        "nobody was asked about the other"
    )


def test_a_pupil_learns_goes_on_after_a_stop_and_is_kept(
    taught: Teacher, rendered: list[Lesson], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hyper = replace(HYPER, steps=4, report_every=2, batch=4, precision="fp32")
    monkeypatch.setattr(distil.linepack, "load", lambda name: [])

    def pupil() -> Pupil:
        torch.manual_seed(0)
        return Pupil(taught.alphabet, rendered)

    whole, first, again = pupil(), pupil(), pupil()
    distil.learn(whole, hyper, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(distil.EpochPrinter, "epoch", stop_after(1))
        with pytest.raises(KeyboardInterrupt):
            distil.learn(first, hyper, tmp_path / "parts")
    distil.learn(again, hyper, tmp_path / "parts")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=1e-5, rtol=0)
    distil.save(whole, tmp_path / "kept.npz")
    monkeypatch.setattr(crnn, "kept", lambda: tmp_path / "kept.npz")
    model = crnn.build(None, ["ꝛ"]).eval()
    assert model.alphabet == (*taught.alphabet, "ꝛ")
    line = batched([(torch.randn(3, 32, 80), torch.zeros(1, dtype=torch.long))])
    with torch.inference_mode():
        ours, theirs = model(*line.inputs)[0], whole.eval()(*line.inputs)[0]
    torch.testing.assert_close(ours[..., :-1], theirs, atol=2e-2, rtol=0)
    assert float(ours[..., -1].max()) <= float(theirs.max())


def stop_after(epochs: int):  # type: ignore[no-untyped-def]
    """A watcher's `epoch` that is interrupted once so many are over."""

    def epoch(self: distil.EpochPrinter, history: list[dict[str, float]]) -> None:
        if history[-1]["epoch"] > epochs:
            raise KeyboardInterrupt

    return epoch
