"""The first version: out of the package, into a bundle, registered once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from redpencil import linepack
from redpencil.blobs import Blobs
from redpencil.bundle import Manifest, bundle_id, fetch
from redpencil.language import EDGE, Language
from redpencil.linepack import PackedLine
from redpencil.metrics import cer
from redpencil.reader import LineReader
from redpencil.registry import Registry
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Precision
from training import base
from training.crops import Line
from training.export import to_bundle
from training.recipe import FOLLOWED
from training.recipes import ppocr
from training.render import demo_lines


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def folder(home: Path) -> Path:
    return base.kept(home)


@pytest.fixture(scope="module")
def golden() -> list[PackedLine]:
    return linepack.load("golden")[::10]


def test_the_base_says_what_it_is_and_under_which_licence(folder: Path) -> None:
    lineage = Manifest.load(folder).lineage
    assert lineage["licence"] == "Apache-2.0"
    assert "rapidocr" in lineage["origin"]
    assert len(lineage["origin_sha256"]) == 64


def test_its_alphabet_is_the_packages_with_the_space_at_the_end(folder: Path) -> None:
    alphabet = Manifest.load(folder).alphabet
    assert alphabet[-1] == " "
    assert len(alphabet) == len(set(alphabet)) == 18_709


@pytest.mark.parametrize("precision", Precision)
def test_it_reads_print_from_the_first_day(
    folder: Path, golden: list[PackedLine], precision: Precision
) -> None:
    reader = LineReader(folder, precision)
    assert cer((line.text, reader.read(line.image).text) for line in golden) < 0.05


def test_its_graph_answers_as_the_packages_own_does(folder: Path, golden: list[PackedLine]) -> None:
    peer = onnxruntime.InferenceSession(ppocr.base_file(), providers=["CPUExecutionProvider"])
    reader = LineReader(folder, Precision.FP32)
    for line in golden[:10]:
        image = reader.tensor(line.image)[None]
        (shares,) = peer.run(None, {peer.get_inputs()[0].name: image})
        indices, probabilities, _ = reader.infer(image)
        assert (indices[..., 0] == shares.argmax(-1)).all()
        assert np.allclose(probabilities, np.sort(shares)[..., ::-1][..., :FOLLOWED], atol=1e-4)


def test_what_goes_on_from_it_reads_all_else_in_int8_as_it_does(
    folder: Path, golden: list[PackedLine], tmp_path: Path
) -> None:
    corrected = [Line(np.repeat(d.image[:, :, None], 3, 2), d.text) for d in demo_lines(6, seed=1)]
    model = ppocr.build(folder, [line.text for line in corrected])
    assert model.taught
    with torch.no_grad():
        model.taught.head.weight.mul_(1 + 0.02 * torch.randn(model.taught.head.weight.shape))
    rehearsed = [Line(line.image, line.text) for line in linepack.load("rehearsal")[::40]]
    model.know(corrected, rehearsed)
    to_bundle(model.eval(), tmp_path, [*corrected, *rehearsed[:8]], {})
    before, now = (LineReader(where, Precision.INT8) for where in (folder, tmp_path))
    assert [now.read(line.image) for line in golden] == [before.read(line.image) for line in golden]
    assert [now.read(line.image) for line in corrected] != [before.read(line.image) for line in corrected]


def test_in_doubt_it_reads_what_may_be_a_word(folder: Path) -> None:
    language = Language.of_bundle(folder, Manifest.load(folder))
    assert language
    assert language.words
    for word, other in (("Wasser", "Wasscr"), ("cuisine", "cuisine".replace("n", "u")), ("woda", "wcda")):
        assert language.gain(EDGE, word + EDGE) > language.gain(EDGE, other + EDGE)
    assert language.gain("\nTotal 12", ".50") == 0, "of figures it says nothing"


def test_training_goes_on_from_it(folder: Path) -> None:
    model = ppocr.build(folder, ["ꝛ"])
    assert model.alphabet == (*Manifest.load(folder).alphabet, "ꝛ")


def test_it_is_made_once(home: Path, folder: Path) -> None:
    born = (folder / "fp32.onnx").stat().st_ino
    assert (base.kept(home) / "fp32.onnx").stat().st_ino == born


def test_it_is_registered_once_as_version_1(home: Path, folder: Path, mlflow_server: Any) -> None:
    settings = Settings(home=home, mlflow_url=mlflow_server.url, model="base")
    assert base.register(settings) == "1"
    assert base.register(settings) is None
    with Store.open(settings.database) as store:
        kept = store.versions.get("base", "1")
    assert kept.bundle == bundle_id(folder)
    assert Registry(settings.mlflow).tags("base", "1")["bundle.sha256"] == kept.bundle
    assert Manifest.load(fetch(kept.bundle, Blobs.open(settings.blobs), home / "bundles"))


def test_a_start_cut_off_after_registering_registers_no_second_version(
    home: Path, tmp_path: Path, mlflow_server: Any
) -> None:
    settings = Settings(home=home, mlflow_url=mlflow_server.url, model="cut_off")
    assert base.register(settings) == "1"
    lost = Settings(
        home=home,
        mlflow_url=mlflow_server.url,
        model="cut_off",
        database_url=f"sqlite:///{tmp_path / 'empty.db'}",
    )
    assert base.register(lost) == "1"
