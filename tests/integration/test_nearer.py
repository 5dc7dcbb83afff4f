"""A captioner that learned other words keeps the reader before it for images unlike the corrected ones."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gallery
import numpy as np
import pytest
import torch

from redpencil.blobs import Blobs
from redpencil.bundle import MANIFEST, Manifest, fetch, put
from redpencil.errors import Damaged
from redpencil.reader import open_reader
from redpencil.twofold import TwofoldReader
from redpencil.types import Precision
from training.crops import Line
from training.nearer import Nearer, keep
from training.recipes import catr

HYPER = catr.CatrHyper(
    side=gallery.SIDE,
    backbone="resnet18",
    hidden=32,
    heads=4,
    inner=64,
    encoder_layers=1,
    decoder_layers=2,
    vocabulary=60,
    beams=1,
)
TEXTS = [text for number in range(12) for text in gallery.paint(number)[1]]
RED, GREEN, BLUE = ([n for n in range(72) if n % 4 == colour] for colour in range(3))
LINEAGE = {"recipe": "catr"}


def lines(numbers: Sequence[int]) -> list[Line]:
    return [Line(gallery.paint(n)[0], gallery.paint(n)[1][0], str(n), "", str(n)) for n in numbers]


def export(model: catr.Catr, folder: Path) -> Path:
    folder.mkdir()
    model.to_bundle(folder, lines(range(8)), LINEAGE)
    return folder


@pytest.fixture(scope="module")
def models() -> tuple[catr.Catr, catr.Catr]:
    """Two captioners that say different things, whatever they see."""
    torch.manual_seed(0)
    first = catr.build(None, TEXTS, HYPER).eval()
    first.generation = replace(first.generation, longest=4)
    second = copy.deepcopy(first)
    with torch.no_grad():
        for model, word in ((first, 7), (second, 11)):
            model.head[-1].bias[word] += 40
    return first, second


@pytest.fixture(scope="module")
def parent(models: tuple[catr.Catr, catr.Catr], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(models[0], tmp_path_factory.mktemp("bundles") / "first")


@pytest.fixture(scope="module")
def twofold(models: tuple[catr.Catr, catr.Catr], parent: Path) -> Path:
    """Red pictures were corrected, blue ones the first had learned from."""
    folder = export(models[1], parent.parent / "second")
    models[1].keep_before(folder, parent, lines(RED[:8]), lines(BLUE[:8]))
    return folder


def test_how_long_captions_may_be_stays_and_how_they_are_chosen_is_each_runs_own(
    models: tuple[catr.Catr, catr.Catr], tmp_path: Path
) -> None:
    short = catr.build(None, TEXTS, replace(HYPER, longest=9, length_penalty=0.6, beams=2))
    assert short.generation == replace(models[0].generation, longest=9, length_penalty=0.6, beams=2)
    assert len(short.spell("a black picture with " * 9)) == 9
    folder = export(short, tmp_path / "short")
    again = catr.build(folder, TEXTS, replace(HYPER, length_penalty=1.2))
    assert (again.generation.longest, again.generation.length_penalty) == (9, 1.2)
    made = Manifest.load(folder)
    assert made.generation.length_penalty == 0.6
    older = {k: v for k, v in made.lineage["shape"].items() if k != "longest"}
    replace(made, lineage={**made.lineage, "shape": older}).save(folder)
    assert len(catr.build(folder, TEXTS, HYPER).positions.weight) == 10


def said(folder: Path, numbers: Sequence[int]) -> list[str]:
    reader = open_reader(folder, Precision.FP32)
    return [reader.read(gallery.paint(n)[0]).text for n in numbers]


def test_images_like_the_corrected_ones_have_the_new_words_and_others_the_old(
    parent: Path, twofold: Path
) -> None:
    assert isinstance(open_reader(twofold), TwofoldReader)
    [old], [new] = said(parent, BLUE[9:10]), said(twofold, RED[9:10])
    assert old != new
    assert said(twofold, [*BLUE[8:12], *RED[8:12]]) == [old] * 4 + [new] * 4


def test_it_travels_whole_as_one_bundle(twofold: Path, tmp_path: Path) -> None:
    blobs = Blobs.open(f"file://{tmp_path / 'blobs'}")
    again = fetch(put(twofold, blobs), blobs, tmp_path / "cache")
    assert sorted(p.name for p in again.iterdir()) == sorted(p.name for p in twofold.iterdir())
    assert said(again, RED[8:12]) == said(twofold, RED[8:12])
    manifest = Manifest.load(again)
    assert Manifest.from_json(manifest.to_json()) == manifest
    (again / "before.decoder.fp32.onnx").write_bytes(b"another")
    with pytest.raises(Damaged, match=r"before\.decoder\.fp32"):
        open_reader(again)


def test_the_next_version_keeps_the_first_reader_and_learns_of_more_images(
    models: tuple[catr.Catr, catr.Catr], parent: Path, twofold: Path
) -> None:
    folder = export(models[1], parent.parent / "third")
    models[1].keep_before(folder, twofold, lines(GREEN[:8]), lines([*RED[:8], *BLUE[:8]]))
    [old], [new] = said(parent, BLUE[9:10]), said(twofold, RED[9:10])
    assert said(folder, [*GREEN[:12], *RED[8:12], *BLUE[8:12]]) == [new] * 16 + [old] * 4
    before = Manifest.load(folder).before
    assert before is not None
    assert [g.sha256 for g in before.files()] == [g.sha256 for g in Manifest.load(parent).files()]


def test_a_run_without_new_corrections_leaves_it_as_it_is(
    models: tuple[catr.Catr, catr.Catr], parent: Path, twofold: Path
) -> None:
    folder = export(models[1], parent.parent / "fourth")
    models[1].keep_before(folder, twofold, [], lines([*RED[:8], *BLUE[:8]]))
    shown = [*RED[:12], *BLUE[:12]]
    assert said(folder, shown) == said(twofold, shown)


@pytest.mark.parametrize(("new", "known"), [(RED, []), ([], BLUE), (RED, RED)])
def test_where_there_is_nothing_to_tell_apart_the_new_reader_reads_all(
    parent: Path, tmp_path: Path, new: list[int], known: list[int]
) -> None:
    (tmp_path / MANIFEST).write_bytes((parent / MANIFEST).read_bytes())
    keep(tmp_path, parent, "1.value", lines(new), lines(known))
    assert [p.name for p in tmp_path.iterdir()] == [MANIFEST]


def test_an_image_that_was_corrected_itself_is_familiar_among_any_others() -> None:
    rng = np.random.default_rng(0)
    others = torch.from_numpy(rng.normal(size=(40, 2, 3, 4)).astype(np.float32))
    nearer = Nearer.of(others[1:], others[:1])
    assert nearer(torch.cat([others[:1] + 0.001, others[1:3]])).tolist() == [True, False, False]


def test_a_manifest_with_half_of_it_is_refused(twofold: Path) -> None:
    data = Manifest.load(twofold).to_json().replace(b'"familiar":', b'"decode":', 1)
    with pytest.raises(Damaged):
        Manifest.from_json(data)
