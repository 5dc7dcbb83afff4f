"""The base recogniser in torch is the one in the ONNX file, and a bundle holds all of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional as F

from redpencil import linepack
from redpencil.bundle import Graph, Manifest
from redpencil.errors import BadInput, Damaged
from redpencil.language import Language
from redpencil.metrics import cer
from redpencil.pixels import to_tensor
from redpencil.reader import LineReader
from redpencil.text import in_capitals
from redpencil.types import Precision
from training import capitals, data
from training.crops import Line
from training.doubt import Room, Statement
from training.export import with_language, write_graph
from training.familiar import FAR
from training.frozen import Frozen
from training.recipe import FOLLOWED, LineModel
from training.recipes import crnn, ppocr
from training.render import demo_lines
from training.weights import constants

BLACK_LETTER = [Line(np.repeat(d.image[:, :, None], 3, 2), d.text) for d in demo_lines(6, seed=1)]


def bundle(model: LineModel, folder: Path, recipe: str) -> Path:
    """The model as an FP32 bundle; what export does, less INT8."""
    folder.mkdir()
    image = np.random.default_rng(1).uniform(-1, 1, (1, 3, model.preprocessing.height, 120))
    write_graph(model.export_module(), folder / "fp32.onnx", image.astype(np.float32))
    graphs = {Precision.FP32: Graph.of(folder / "fp32.onnx")}
    lineage = {"recipe": recipe}
    manifest = Manifest(model.preprocessing, model.alphabet, graphs, Precision.FP32, lineage)
    manifest.save(folder)
    if model.language:
        with_language(folder, manifest, model.language)
    return folder


@pytest.fixture(scope="module")
def base() -> ppocr.PPOCR:
    return ppocr.build(None, []).eval()


def test_the_base_reads_the_golden_lines(base: ppocr.PPOCR) -> None:
    lines = linepack.load("golden")[:300:20]
    found = data.read(base, Frozen(base).map(lambda line: line.image, lines))
    assert cer([(line.text, f.text) for line, f in zip(lines, found, strict=True)]) < 0.05


def test_a_changed_weight_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_right = ppocr.layers_in_order

    def read_wrong(graph: onnx.GraphProto) -> object:
        layers = read_right(graph)
        layers[5] = (layers[5][0] * 1.05, layers[5][1])
        return layers

    monkeypatch.setattr(ppocr, "layers_in_order", read_wrong)
    with pytest.raises(Damaged, match="differ by"):
        ppocr.from_paddle(ppocr.base_file())


def test_another_graph_is_refused(tmp_path: Path) -> None:
    graph = onnx.load(ppocr.base_file())
    smaller = next(t for t in graph.graph.initializer if list(t.dims) == [120, 18710])
    smaller.CopyFrom(numpy_helper.from_array(np.zeros((120, 99), np.float32), smaller.name))
    onnx.save(graph, tmp_path / "other.onnx")
    with pytest.raises(Damaged, match="not the PP-OCRv6 graph"):
        ppocr.from_paddle(tmp_path / "other.onnx")


def test_bundle_to_torch_to_bundle_to_torch_changes_nothing(base: ppocr.PPOCR, tmp_path: Path) -> None:
    first = ppocr.build(bundle(base, tmp_path / "a", "ppocr"), [])
    second = ppocr.build(bundle(first.eval(), tmp_path / "b", "ppocr"), [])
    for name, value in base.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    assert second.alphabet == base.alphabet


def test_a_grown_alphabet_keeps_every_class_and_every_reading(base: ppocr.PPOCR, tmp_path: Path) -> None:
    grown = ppocr.build(bundle(base, tmp_path / "a", "ppocr"), ["ಕನ್ನಡ", "known"]).eval()
    assert grown.alphabet[: len(base.alphabet)] == base.alphabet
    assert set(grown.alphabet[len(base.alphabet) :]) == set("ಕನ್ನಡ")
    lines = linepack.load("golden")[:300:40]
    features = Frozen(base).map(lambda line: line.image, lines)
    assert [x.text for x in data.read(grown, features)] == [x.text for x in data.read(base, features)]


@pytest.fixture(scope="module")
def taught(base: ppocr.PPOCR) -> ppocr.PPOCR:
    """Taught to answer one sign everywhere, and to know black letter."""
    model = ppocr.build(None, ["ಕ", *(line.text for line in BLACK_LETTER)]).eval()
    assert model.taught
    with torch.no_grad():
        model.taught.head.bias[-1] += 1000
    model.know(BLACK_LETTER[:20], [Line(x.image, x.text) for x in linepack.load("rehearsal")[::6]])
    return model


def test_nothing_written_there_can_be_taught_too() -> None:
    model = ppocr.build(None, ["", ""])
    assert model.taught is not None
    model.begin(["", ""])


def test_what_was_taught_reads_lines_of_its_kind_and_no_others(
    base: ppocr.PPOCR, taught: ppocr.PPOCR
) -> None:
    others = [line.image for line in linepack.load("golden")[:300:10]]
    own = [line.image for line in BLACK_LETTER[20:]]
    print_features, own_features = (Frozen(base).map(lambda i: i, images) for images in (others, own))
    assert [x.text for x in data.read(taught, own_features)] == ["ಕ"] * len(own)
    assert data.read(taught, print_features) == data.read(base, print_features)


def test_what_was_taught_and_what_is_familiar_come_back_from_a_bundle(
    taught: ppocr.PPOCR, tmp_path: Path
) -> None:
    folder = bundle(taught, tmp_path / "a", "ppocr")
    again = ppocr.build(folder, []).eval()
    assert again.state_dict().keys() == taught.state_dict().keys()
    for name, value in taught.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    reader = LineReader(folder, Precision.FP32)
    golden = linepack.load("golden")[:300:30]
    read = data.read(taught, Frozen(taught).map(lambda line: line.image, golden))
    assert [reader.read(line.image).text for line in golden] == [x.text for x in read]
    assert reader.read(BLACK_LETTER[-1].image).text == "ಕ"


def test_a_bundle_reads_what_it_was_taught_with_the_language_of_its_texts_and_nothing_else(
    tmp_path: Path,
) -> None:
    model = ppocr.build(None, [line.text for line in BLACK_LETTER]).eval()
    model.know(BLACK_LETTER[:20], [Line(x.image, x.text) for x in linepack.load("rehearsal")[::6]])
    folder = bundle(model, tmp_path / "a", "ppocr")
    reader = LineReader(folder, Precision.FP32)
    assert model.language
    assert ppocr.build(folder, []).language.pieces == model.language.pieces  # type: ignore[union-attr]
    own, other = (
        reader.infer(reader.tensor(x.image)[None]) for x in (BLACK_LETTER[-1], linepack.load("golden")[0])
    )
    assert own[1].shape[-1] == other[1].shape[-1] == FOLLOWED
    assert (own[2].tolist(), other[2].tolist()) == ([1], [0]), "it has no say in a line of another kind"
    features = Frozen(model).map(lambda line: line.image, BLACK_LETTER)
    read = [reader._read(line.image).text for line in BLACK_LETTER]  # without another look
    assert read == [x.text for x in data.read(model, features)]
    model.language = None
    assert read != [x.text for x in data.read(model, features)], "it has a say"


def test_a_habit_of_writing_capitals_is_learned_beside_the_letters_and_kept_in_a_bundle(
    base: ppocr.PPOCR, tmp_path: Path
) -> None:
    golden = [line for line in linepack.load("golden")[:300:10] if as_small(line.text)]
    written = [Line(x.image, in_capitals(x.text), f"corr_{n}") for n, x in enumerate(golden)]
    model = ppocr.build(None, [line.text for line in written]).eval()
    printed = [line.text for line in model.as_printed(written)]
    assert cer([(x.text, text) for x, text in zip(golden, printed, strict=True)]) < 0.01, "but for slips"
    model.begin(printed)
    assert model.as_printed(golden) == golden
    assert Room(lambda: model, [Statement(line) for line in written]).texts == printed, (
        "no slip is seen in it"
    )
    model.know(written[1:], [Line(x.image, x.text) for x in linepack.load("rehearsal")[::6]])
    reader = LineReader(bundle(model, tmp_path / "a", "ppocr"), Precision.FP32)
    assert all(reader.read(x.image).text.isupper() for x in written[1:]), "they are familiar themselves"
    assert not any(reader.read(x.image).text.isupper() for x in BLACK_LETTER)
    again = ppocr.build(tmp_path / "a", []).eval()
    features = Frozen(again).map(lambda line: line.image, written)
    assert [x.text for x in data.read(again, features)] == [reader._read(x.image).text for x in written]


def test_where_nothing_is_rehearsed_texts_are_learned_as_they_are() -> None:
    golden = linepack.load("golden")[:300:30]
    written = [Line(line.image, in_capitals(line.text)) for line in golden]
    for replay, same in ((0.0, True), (0.5, False)):
        hyper = replace(ppocr.RECIPE.defaults, replay=replay)
        model = ppocr.build(None, [line.text for line in written], hyper)
        assert (model.as_printed(written) == written) is same


def test_a_bundle_of_before_there_were_habits_goes_on(taught: ppocr.PPOCR, tmp_path: Path) -> None:
    stored = constants(bundle(taught, tmp_path / "a", "ppocr") / "fp32.onnx")
    older = {name: v for name, v in stored.items() if name not in ("familiar.capitals", "familiar.small")}
    assert len(older) == len(stored) - 2
    parts = list(ppocr._of_familiar(older))
    assert [part.tolist() for part in parts[4:]] == [[FAR] * len(stored["familiar.bars"])] * 2


def as_small(text: str) -> bool:
    return capitals.as_printed(in_capitals(text), text) == text != in_capitals(text)


def test_a_language_counts_each_correction_once(taught: ppocr.PPOCR) -> None:
    lines = [Line(x.image, x.text, key=f"corr_{n}") for n, x in enumerate(BLACK_LETTER[:4])]
    rehearsed = [Line(x.image, x.text) for x in linepack.load("rehearsal")[::60]]
    model = ppocr.build(None, [line.text for line in lines]).eval()
    model.know(lines[:2], rehearsed, before={"corr_0"})
    assert model.language
    assert model.language.pieces == Language.of(x.text for x in lines[:2]).pieces, "its parent had none"
    model.know(lines, rehearsed, before={"corr_0", "corr_1"})
    assert model.language.pieces == Language.of(x.text for x in lines).pieces
    rendered = [Line(x.image, x.text) for x in linepack.load("primer", "kannada")[:3]]
    for _ in range(2):  # a primer comes with every run until there are corrections enough
        model.know(lines, rehearsed, rendered, before={x.key for x in lines})
        assert model.language.pieces == Language.of(x.text for x in [*lines, *rendered]).pieces


def test_the_words_of_a_script_come_with_its_letters(base: ppocr.PPOCR) -> None:
    line = Line(BLACK_LETTER[0].image, "где он", "corr_1")
    model = ppocr.build(None, [line.text]).eval()
    model.know([line], [Line(x.image, x.text) for x in linepack.load("rehearsal")[::60]])
    known = [set(m.language.words.counts) for m in (base, model) if m.language and m.language.words]
    assert "он" not in known[0] < known[1]
    assert "он" in known[1]


def test_a_run_goes_on_from_what_its_parent_was_taught(taught: ppocr.PPOCR, tmp_path: Path) -> None:
    again = ppocr.build(bundle(taught, tmp_path / "a", "ppocr"), ["new: ꝛ"])
    assert taught.taught
    assert again.taught
    assert again.alphabet == (*taught.alphabet, "ꝛ")
    before, now = taught.taught.classes.tolist(), again.taught.classes.tolist()
    assert set(before) | {len(again.alphabet)} <= set(now)
    at = [now.index(c) for c in before]
    assert torch.equal(again.taught.head.weight[:, at], taught.taught.head.weight)
    least = float(taught.head.bias[: len(ppocr.build(None, []).alphabet) + 1].min())
    assert float(again.taught.head.bias[-1].detach()) == least, "as easily learned as the first new ones"
    again.begin(["new: ꝛ"])
    with pytest.raises(ValueError, match="built with"):
        again.begin(["鬱"])
    again.know(BLACK_LETTER[20:], [])
    assert taught.familiar
    assert again.familiar
    assert again.familiar.examples.shape[1] == taught.familiar.examples.shape[1] + len(BLACK_LETTER[20:])


def test_a_line_reads_the_same_alone_and_beside_a_wider_one(base: ppocr.PPOCR) -> None:
    narrow, wide = (base.features(torch.rand(1, 3, 48, width) * 2 - 1) for width in (160, 240))
    with torch.no_grad():
        alone, (length,) = base(narrow)
        padded = F.pad(narrow, (0, wide.shape[-1] - narrow.shape[-1]))
        beside, _ = base(torch.cat([padded, wide]), torch.tensor([length, wide.shape[-1]]))
    torch.testing.assert_close(beside[0, : int(length)], alone[0], atol=1e-3, rtol=1e-4)


def test_a_crnn_goes_on_from_its_bundle(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = crnn.build(None, ["abc"]).train()
    model.know([Line(BLACK_LETTER[0].image, "abc", "corr_1")], [Line(BLACK_LETTER[0].image, "no key")])
    model(torch.randn(4, 3, 32, 64), torch.tensor([64, 60, 50, 40]))  # moves the batch norms
    again = crnn.build(bundle(model.eval(), tmp_path / "a", "crnn"), ["dab ꝛ"])
    with pytest.raises(BadInput, match="parent=none"):
        crnn.build(tmp_path / "a", ["dab"], replace(crnn.RECIPE.defaults, start="scratch"))
    assert again.alphabet == (*model.alphabet, "ꝛ")
    assert again.language
    assert model.language
    assert again.language.pieces == model.language.pieces
    assert again.language.knows("no key")
    assert again.language.knows(linepack.texts("rehearsal")[0]), "it was taught Latin print before"
    for name, value in model.state_dict().items():
        part = tuple(slice(n) for n in value.shape)
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(again.state_dict()[name][part], value), name


def test_the_frozen_part_gives_the_same_features_as_torch(base: ppocr.PPOCR) -> None:
    images = [line.image for line in linepack.load("golden")[:400:50]]
    found = Frozen(base).map(lambda image: image, images)
    for image, features in zip(images, found, strict=True):
        tensor = torch.from_numpy(to_tensor(image, base.preprocessing))[None]
        torch.testing.assert_close(features.float(), base.features(tensor)[0], atol=1e-3, rtol=1e-3)
