"""From torch to a bundle: the same answers, one file per graph, any width, any batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from redpencil import linepack
from redpencil.bundle import Manifest
from redpencil.errors import BadInput, Damaged, RedpencilError
from redpencil.language import Language
from redpencil.linepack import PackedLine
from redpencil.metrics import cer
from redpencil.pixels import Preprocessing
from redpencil.reader import LineReader
from redpencil.types import Precision
from redpencil.words import Words
from training import export
from training.quantize import Twin
from training.recipe import FOLLOWED, LineModel
from training.recipes import ppocr

ALPHABET = tuple("abcdefghij")
Tuned = tuple[ppocr.PPOCR, Path]


class Recurrent(LineModel):
    """Convolution, batch norm and a bidirectional LSTM: what exporters find hard."""

    preprocessing = Preprocessing(height=16, channels="gray", mean=(0.5,), std=(0.5,), max_width=600)

    def __init__(self) -> None:
        super().__init__()
        self.alphabet = ALPHABET
        self.conv = nn.Sequential(nn.Conv2d(1, 16, 3, (2, 2), 1), nn.BatchNorm2d(16), nn.ReLU())
        self.lstm = nn.LSTM(16 * 8, 24, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(48, len(ALPHABET) + 1)

    def forward(self, features: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.conv(features).permute(0, 3, 1, 2).flatten(2)
        return self.head(self.lstm(x)[0]), torch.full((features.shape[0],), x.shape[1])


class Hasty(Recurrent):
    """Its answer hangs on the width in a way that tracing cannot see."""

    def forward(self, features: Tensor, widths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logits, lengths = super().forward(features)
        return logits * (-1 if features.shape[-1] % 2 else 1), lengths


@pytest.fixture(scope="module")
def lines() -> list[PackedLine]:
    return linepack.load("rehearsal")[::12]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, lines: list[PackedLine]) -> Tuned:
    """A ppocr model with a grown alphabet, slightly changed, and its bundle."""
    model = ppocr.build(None, ["ꝛ ꝑ"])
    assert model.taught
    with torch.no_grad():
        model.taught.head.weight.mul_(1 + 0.01 * torch.randn(model.taught.head.weight.shape))
    folder = tmp_path_factory.mktemp("tuned")
    export.to_bundle(model, folder, lines, {"run": "run_1"})
    return model, folder


def recurrent(kind: type[Recurrent] = Recurrent) -> Recurrent:
    torch.manual_seed(0)
    return kind()


def test_a_bundle_holds_its_graphs_and_nothing_beside_them(tuned: Tuned) -> None:
    assert sorted(p.name for p in tuned[1].iterdir()) == [
        "bundle.json",
        "fp32.onnx",
        "int8.onnx",
        "words.json",
    ]


def test_a_bundle_says_where_it_came_from_and_is_served_in_int8(tuned: Tuned) -> None:
    manifest = Manifest.load(tuned[1])
    assert manifest.lineage["run"] == "run_1"
    assert manifest.precision is Precision.INT8
    assert manifest.alphabet == tuned[0].alphabet
    assert manifest.preprocessing == tuned[0].preprocessing


def test_the_fp32_graph_reads_as_torch_does(tuned: Tuned, lines: list[PackedLine]) -> None:
    model, folder = tuned
    reader, module = LineReader(folder, Precision.FP32), model.export_module()
    for line in lines[:3]:
        with torch.inference_mode():
            by_torch = module(torch.from_numpy(reader.tensor(line.image)[None]))
        assert reader.read(line.image).text == reader.text(*(row[0].numpy() for row in by_torch)).text


def test_int8_loses_little_and_is_much_smaller(tuned: Tuned, lines: list[PackedLine]) -> None:
    rates = {}
    for precision in Precision:
        reader = LineReader(tuned[1], precision)
        rates[precision] = cer((line.text, reader.read(line.image).text) for line in lines)
    assert rates[Precision.INT8] <= rates[Precision.FP32] + 0.003
    graphs = Manifest.load(tuned[1]).graphs
    assert graphs[Precision.INT8].bytes < graphs[Precision.FP32].bytes / 2


def test_a_tuned_model_is_read_back_from_its_bundle(tuned: Tuned) -> None:
    model, folder = tuned
    again = ppocr.build(folder, [])
    assert again.alphabet == model.alphabet
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_an_lstm_reads_any_width_in_any_batch(tmp_path: Path, lines: list[PackedLine]) -> None:
    model = recurrent()
    export.to_bundle(model, tmp_path, lines[:40], {})
    module, reader = model.export_module(), LineReader(tmp_path, Precision.FP32)
    for batch, width in ((1, 16), (1, 333), (2, 600), (5, 97)):
        images = np.random.default_rng(0).uniform(-1, 1, (batch, 1, 16, width)).astype(np.float32)
        with torch.inference_mode():
            wanted = module(torch.from_numpy(images))
        indices, probabilities, _ = reader.infer(images)
        assert (indices == wanted[0].numpy()).mean() > 0.99
        assert np.allclose(probabilities, wanted[1].numpy(), atol=1e-3)


def test_the_language_of_a_model_travels_in_its_bundle(tmp_path: Path, lines: list[PackedLine]) -> None:
    model = recurrent()
    told = Language.of(["abc", "abd"])
    model.language = Language(told.pieces, Words({"cab": 2}), Words({"bad": 1}, met={"en": 60}))
    export.to_bundle(model, tmp_path, lines[:40], {})
    manifest = Manifest.load(tmp_path)
    assert manifest.lineage["language_characters"] == 8
    again = Language.of_bundle(tmp_path, manifest)
    assert again
    assert again.words
    assert again.own_words
    assert (again.pieces, again.words.counts) == (model.language.pieces, {"cab": 2})
    assert (again.own_words.counts, again.own_words.met) == ({"bad": 1}, {"en": 60})
    for precision in manifest.graphs:
        reader = LineReader(tmp_path, precision)
        assert reader.infer(reader.tensor(lines[0].image)[None])[0].shape[-1] == FOLLOWED
        assert reader.read(lines[0].image)
    for file in ("own_words.json", "words.json", "language.json"):
        (tmp_path / file).unlink()
        with pytest.raises(Damaged, match=rf"{file} is missing"):
            LineReader(tmp_path)


def test_an_lstm_counts_as_the_work_that_it_is(tmp_path: Path) -> None:
    model = recurrent()
    image = np.zeros((1, 1, 16, 64), np.float32)
    export.write_graph(model.export_module(), tmp_path / "fp32.onnx", image)
    with Twin(tmp_path / "fp32.onnx", [image]) as twin:
        lstm = [name for name in twin.layers if "LSTM" in name]
        others = [name for name in twin.layers if name not in lstm]
        assert len(lstm) == 2
        assert twin.work(lstm[:1]) >= twin.work(others) > 0


def test_an_lstm_is_served_in_int8_and_answers_nearly_the_same(
    tmp_path: Path, lines: list[PackedLine]
) -> None:
    manifest = export.to_bundle(recurrent(), tmp_path, lines[:40], {})
    kinds = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    assert (kinds.count("DynamicQuantizeLSTM"), kinds.count("LSTM")) == (2, 0)
    assert manifest.graphs[Precision.INT8].bytes < 0.35 * manifest.graphs[Precision.FP32].bytes
    readers = [LineReader(tmp_path, precision) for precision in Precision]
    exact, small = (reader.infer(reader.tensor(lines[0].image)[None])[1] for reader in readers)
    assert 0 < np.abs(exact - small).max() < 0.02


def test_batch_norms_keep_their_names_so_that_weights_can_be_read_back(
    tmp_path: Path, lines: list[PackedLine]
) -> None:
    model = recurrent()
    export.to_bundle(model, tmp_path, lines[:4], {})
    stored = {t.name for t in onnx.load(tmp_path / "fp32.onnx").graph.initializer}
    assert {"model.conv.0.weight", "model.conv.1.weight", "model.conv.1.running_mean"} <= stored


def test_a_graph_that_does_not_answer_as_torch_does_is_refused(
    tmp_path: Path, lines: list[PackedLine]
) -> None:
    with pytest.raises(RedpencilError, match="torch and ONNX Runtime differ"):
        export.to_bundle(recurrent(Hasty), tmp_path, lines[:20], {})


def test_where_int8_loses_too_much_the_gate_still_gets_one_that_is_quick(
    tmp_path: Path, lines: list[PackedLine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "beyond_chance", lambda changes: 1e9)
    manifest = export.to_bundle(recurrent(), tmp_path, lines[:40], {})
    assert manifest == Manifest.load(tmp_path)
    assert (manifest.precision, set(manifest.graphs)) == (Precision.FP32, set(Precision))
    assert LineReader(tmp_path, Precision.INT8).read(lines[0].image)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_handful_of_lines_is_enough(tmp_path: Path, lines: list[PackedLine], count: int) -> None:
    export.to_bundle(recurrent(), tmp_path, lines[:count], {})
    assert LineReader(tmp_path).read(lines[0].image)


def test_no_line_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least one line"):
        export.to_bundle(recurrent(), tmp_path, [], {})


def test_the_same_model_gives_the_same_bundle(tmp_path: Path, lines: list[PackedLine]) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(export.to_bundle(recurrent(), tmp_path / name, lines[:40], {}))
    assert made[0] == made[1]
