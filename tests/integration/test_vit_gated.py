"""vit_gated learns by heart, steps as it trains, exports, and goes on: tiny sizes, one thread."""

import sys
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_bundle
import torch
from PIL import ImageFont
from torchvision.models import VisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings

from redpencil import generate
from redpencil.bundle import Manifest
from redpencil.errors import BadInput
from redpencil.pixels import to_tensor
from redpencil.reader import open_reader
from redpencil.types import Precision
from training.crops import Line
from training.job import Lines
from training.recipes.vit_gated import RECIPE, VitGated, VitGatedHyper, another, build
from training.render import draw
from training.schedule import Patience, rate
from training.torch_decoder import MEMORY, TorchDecoder

TEXTS = [
    "Đường Nguyễn Huệ",
    "Hà Nội 36 phố",
    "Red pencil",
    "TOTAL: 12,50",
    "Trường học",
    "phở bò",
    "Chợ",
    "ẵ",
]
SIZES = {"patch": 8, "vision_width": 48, "vision_layers": 2, "vision_heads": 4, "vision_inner": 96}
SIZES |= {"hidden": 48, "heads": 4, "inner": 96, "layers": 4, "cross_every": 2, "longest": 24}
LEARNING = {"lr": 3e-3, "batch": 8, "accumulate": 1, "report_every": 8, "dropout": 0.0, "augment": 0.0}
TINY = RECIPE.defaults.updated(
    {"height": 16, "width": 128, "vocabulary": 300, "precision": "fp32", "validation": 0.0} | LEARNING | SIZES
)


def lines() -> list[Line]:
    file = resources.files("matplotlib") / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    font = ImageFont.truetype(str(file), 40)
    return [Line(np.repeat(draw(t, font)[:, :, None], 3, 2), t, t, t, t) for t in TEXTS]


def taught(model: VitGated, hyper: VitGatedHyper, epochs: int) -> VitGated:
    """Trained as the loop does it."""
    given = Lines(lines(), lines(), [])
    lessons = model.lessons(given, hyper)
    optimiser = torch.optim.AdamW([g | {"full": g["lr"]} for g in model.parameter_groups(hyper)])
    for step, batch in enumerate(b for epoch in range(epochs) for b in lessons.epoch(epoch)):
        for group in optimiser.param_groups:
            group["lr"] = group["full"] * rate(hyper, step, epochs * hyper.report_every, Patience(0))
        model.train()
        optimiser.zero_grad()
        lessons.loss(model(*batch.inputs), batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), hyper.clip)
        optimiser.step()
    return model.eval()


def stacked(model: VitGated, count: int = 4) -> torch.Tensor:
    return torch.from_numpy(np.stack([to_tensor(x.image, model.preprocessing) for x in lines()[:count]]))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def knowing() -> VitGated:
    torch.manual_seed(0)
    return taught(build(None, TEXTS, TINY), TINY, 14)


@pytest.fixture(scope="module")
def exported(knowing: VitGated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    knowing.to_bundle(folder, lines(), {"recipe": "vit_gated"})
    return folder


def test_it_learns_texts_in_two_languages_by_heart_with_every_mark(knowing: VitGated) -> None:
    marks = knowing.lessons(Lines(lines(), lines(), []), TINY).mark()
    assert (marks.exact, marks.cer, marks.wer) == (1.0, 0.0, 0.0)
    assert marks.score == pytest.approx(marks.cer, abs=1e-5)


def test_steps_with_kept_keys_say_what_teacher_forcing_says(knowing: VitGated) -> None:
    images = stacked(knowing)
    tokens = torch.tensor([[*knowing.generation.start, *knowing.spell(t)[:5]] for t in TEXTS[:4]])
    with torch.inference_mode():
        at_once = knowing(images, tokens)
        memory = knowing.encode(images)
        past = {n: torch.zeros(4, h, 0, d) for n, (h, d) in knowing.past_shapes.items()}
        for step in range(tokens.shape[1]):
            length = torch.full((4,), step)
            logits, new = knowing.decode(tokens[:, step : step + 1], length, memory, past)
            past = {n: torch.cat([past[n], new[n]], 2) for n in past}
            torch.testing.assert_close(logits[:, 0], at_once[:, step], atol=1e-5, rtol=1e-5)


def test_only_every_kth_layer_looks_and_keeps_keys_of_the_image() -> None:
    model = build(None, TEXTS, TINY)
    assert {name.split(".")[0] for name in model.encode(stacked(model))} == {"1", "3"}
    assert not hasattr(model.layers[0], "cross")
    with pytest.raises(BadInput, match="cross_every"):
        build(None, TEXTS, replace(TINY, cross_every=5))


def test_behind_closed_gates_the_text_knows_nothing_of_the_image(knowing: VitGated) -> None:
    closed = build(None, TEXTS, TINY)
    closed.load_state_dict(knowing.state_dict())
    images = stacked(closed, 2)
    tokens = torch.tensor([list(closed.generation.start) * 3] * 2)
    with torch.inference_mode():
        seeing = closed.eval()(images, tokens)
        for i in closed.looking:
            closed.layers[i].gate.bias.fill_(-1e4)
        blind = closed(images, tokens)
    assert not torch.allclose(seeing[0], seeing[1], atol=1e-2)
    assert torch.equal(blind[0], blind[1])


def test_the_bundle_reads_what_the_model_reads_in_int8_too(exported: Path) -> None:
    manifest = Manifest.load(exported)
    assert manifest.precision is Precision.INT8
    for precision in Precision:
        reader = open_reader(exported, precision)
        assert [reader.read(line.image).text for line in lines()] == TEXTS


def test_texts_of_different_length_are_written_together(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, step = list[int](), generate.step

    def watched(decoder: generate.Decoder, those: Sequence[generate.Writing]) -> None:
        sizes.append(len(those))
        step(decoder, those)

    monkeypatch.setattr(generate, "step", watched)
    for precision, most in ((Precision.FP32, generate.MOST), (Precision.INT8, 1)):
        reader = open_reader(exported, precision)
        assert isinstance(reader, generate.TextReader)
        alone = [reader.read(line.image) for line in lines()]
        sizes.clear()
        with ThreadPoolExecutor(12) as pool:
            together = list(pool.map(reader.read, [line.image for line in lines()] * 6))
        assert [r.text for r in together] == [r.text for r in alone] * 6
        assert max(sizes) <= most
        assert (max(sizes) > 1) == (most > 1)


def test_a_model_of_the_bundle_is_the_same_and_spells_new_texts(knowing: VitGated, exported: Path) -> None:
    other = replace(TINY, hidden=32, height=32, vocabulary=600, vision_share=0.0, length_penalty=0.7)
    again = build(exported, ["chữ mới 漢字"], other).eval()
    tokens = torch.tensor([list(knowing.generation.start)] * 4)
    with torch.inference_mode():
        torch.testing.assert_close(again(stacked(again), tokens), knowing(stacked(knowing), tokens))
    assert again.generation == replace(knowing.generation, length_penalty=0.7)
    assert again.alphabet == knowing.alphabet
    assert again.tokenizer.decode(again.spell("chữ mới 漢字")) == "chữ mới 漢字"
    assert not any(p.requires_grad for p in again.vision.parameters())


def test_it_refuses_a_bundle_of_another_family(tmp_path: Path) -> None:
    tiny_bundle.build(tmp_path / "tape")
    with pytest.raises(BadInput, match="bundles of its own kind"):
        build(tmp_path / "tape", TEXTS, TINY)


def test_it_learns_at_several_sizes_and_reads_at_its_own() -> None:
    hyper = replace(TINY, scales="0.5, 1, 1.5")
    model = build(None, TEXTS, hyper)
    images, tokens = stacked(model), torch.tensor([list(model.generation.start)] * 4)
    sizes = {model.train().encode(images)["1.key"].shape[2] for _ in range(20)}
    assert sizes == {1 + 1 * 8, 1 + 2 * 16, 1 + 3 * 24}
    assert model.eval().encode(images)["1.key"].shape[2] == 1 + 2 * 16
    model.train()(images, tokens).sum().backward()
    assert model.vision.encoder.pos_embedding.grad.abs().sum() > 0
    for wrong in ("big", "0", "-1"):
        with pytest.raises(BadInput, match="scales"):
            build(None, TEXTS, replace(TINY, scales=wrong))


def test_weights_of_another_side_fit_by_interpolated_positions(tmp_path: Path) -> None:
    theirs = VisionTransformer(32, 8, 2, 4, 48, 96)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    hyper = replace(TINY, height=64, width=64, vision_weights=str(tmp_path / "vit.pth"))
    model = build(None, TEXTS, hyper)
    wanted = interpolate_embeddings(64, 8, theirs.state_dict())["encoder.pos_embedding"]
    torch.testing.assert_close(model.vision.encoder.pos_embedding.data, wanted)
    assert torch.equal(model.vision.conv_proj.weight, theirs.conv_proj.weight)
    text, seeing = model.parameter_groups(hyper)
    assert seeing["lr"] == pytest.approx(text["lr"] * 0.1)


def test_wrong_weights_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(VisionTransformer(32, 8, 1, 4, 48, 96).state_dict(), tmp_path / "other.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    for name, why in (("other", "does not fit"), ("junk", "holds no weights"), ("none", "there is no file")):
        with pytest.raises(BadInput, match=rf"(?s)(?=.*{name}\.pth).*{why}"):
            build(None, TEXTS, replace(TINY, vision_weights=str(tmp_path / f"{name}.pth")))


def test_the_rate_goes_by_the_width_unless_it_is_given() -> None:
    model = build(None, TEXTS, TINY)
    scaled = model.parameter_groups(replace(TINY, lr=0.0, factor=2.0, warmup_steps=1000))
    assert scaled[0]["lr"] == pytest.approx(2 * (48 * 1000) ** -0.5)
    assert {g["lr"] for g in model.parameter_groups(TINY)} == {TINY.lr}


def test_attention_is_shown_as_a_picture(knowing: VitGated) -> None:
    images = [line.image for line in lines()[:2]]
    made = knowing.pictures(images)
    assert list(made) == ["attention_0.png", "attention_1.png"]
    assert cv2.imdecode(np.frombuffer(made["attention_0.png"], np.uint8), cv2.IMREAD_COLOR).std() > 10
    with torch.inference_mode():
        memory = knowing.encode(stacked(knowing, 1))
        named = {MEMORY + n: v.numpy() for n, v in memory.items()}
        [(written, _)] = generate.generate(TorchDecoder(knowing), named, knowing.generation)
        looks = knowing.looks(memory, written)
    assert looks.shape == (len(written), 2, 16)
    assert 0 < float(looks.sum((1, 2)).min()) <= float(looks.sum((1, 2)).max()) <= 1 + 1e-5


def test_augmentation_of_a_page_cuts_nothing_off_and_mirrors_nothing() -> None:
    page = np.full((200, 160, 3), 235, np.uint8)
    for top in range(6, 190, 16):  # lines of writing up to the edge, shorter and shorter
        page[top : top + 8, 2 : 158 - top // 2] = 60
    page[2:14, 2:14] = 20
    rng = np.random.default_rng(0)
    for _ in range(60):
        seen = another(page, rng, 1.0)
        assert seen.shape == page.shape
        alike = [_alike(seen, turned) for turned in (page, page[:, ::-1], page[::-1], page[::-1, ::-1])]
        assert alike[0] > max(alike[1:]) + 0.1
        assert seen[:20, :20].min() < 110, "the mark in the corner is gone"


@pytest.mark.parametrize(("shown", "ways"), [("text", 1), ("photo", 2), ("aerial", 8)])
def test_what_an_image_shows_decides_how_it_may_be_turned_and_what_is_best(shown: str, ways: int) -> None:
    model = build(None, TEXTS, TINY.updated({"shown": shown}))
    image = np.zeros((96, 96, 3), np.uint8)
    image[:40, :40], image[:40, 56:], image[56:, :40] = 250, 150, 80
    every = [np.rot90(side, turns) for turns in range(4) for side in (image, image[:, ::-1])]
    rng = np.random.default_rng(0)
    seen = [model.augment(image, rng, 0.2) for _ in range(80)]
    assert len({int(np.argmax([_alike(look, one) for one in every])) for look in seen}) == ways
    assert model.best_by == ("cer" if shown == "text" else "cider_d")
    assert model.shape["shown"] == shown


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(*(cv2.GaussianBlur(x, (0, 0), 6).ravel() for x in (a, b)))[0, 1])


SEGMENTER = """
import re
def word_tokenize(text):
    return re.findall("học sinh|[^ ]+", text)
"""


def test_words_of_several_syllables_become_tokens_where_they_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "underthesea.py").write_text(SEGMENTER, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "underthesea", raising=False)
    texts = ["đi học sinh", "một học sinh", "học sinh giỏi"]
    tokenizer = build(None, texts, replace(TINY, words="underthesea")).tokenizer
    assert tokenizer.encode("đi học sinh").tokens[-1] == " học sinh"
    for text in (*texts, "học sinhh", "a học sinhA", "Học  sinh"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    decomposed = unicodedata.normalize("NFD", "đi học sinh")
    assert tokenizer.decode(tokenizer.encode(decomposed).ids) == "đi học sinh"


def test_a_missing_segmenter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)  # as if it were not installed
    with pytest.raises(BadInput, match="pip install spacy pyvi"):
        build(None, TEXTS, replace(TINY, words="spacy"))
    with pytest.raises(BadInput, match="underthesea, spacy"):
        build(None, TEXTS, replace(TINY, words="other"))
