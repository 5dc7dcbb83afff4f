"""Qwen2.5-VL with adapters says what transformers says, learns, goes on exactly, and travels in a bundle."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_qwen
import torch
from peft import PeftModel
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

from redpencil import generate
from redpencil.bundle import Manifest
from redpencil.errors import BadInput, Damaged
from redpencil.pixels import to_tensor
from redpencil.reader import open_reader
from redpencil.types import Precision
from training import qwen_hub
from training.crops import Line
from training.job import Lines, learned, restore
from training.qwen_vision import Vision
from training.recipes import catr, qwen_vl_lora
from training.recipes.qwen_vl_lora import QwenHyper, QwenVl
from training.text_lessons import TextLessons
from training.torch_decoder import TorchDecoder

HEIGHT, WIDTH = 56, 224


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen.write(tmp_path_factory.mktemp("hub") / "tiny-qwen")


def hyper(base: Path, **params: object) -> QwenHyper:
    own = {"base": str(base), "height": HEIGHT, "width": WIDTH, "longest": 20, "report_every": 50}
    found = qwen_vl_lora.RECIPE.defaults.updated(own | params)
    assert isinstance(found, QwenHyper)
    return found


def built(base: Path, **params: object) -> QwenVl:
    torch.manual_seed(0)
    return qwen_vl_lora.build(None, tiny_qwen.WORDS, hyper(base, **params))


def asked(model: QwenVl, whole: Qwen2_5_VLForConditionalGeneration, images: Tensor) -> dict[str, Tensor]:
    """What transformers takes for these images of the canvas and our prompt."""
    pad, grid = whole.config.image_token_id, [1, *model.vision.grid]
    ids = torch.tensor([[t if t >= 0 else pad for t in model.generation.start]] * len(images))
    flat = Qwen2VLImageProcessor().patchify(images, 14, 2, 2)[0].flatten(0, 1)
    given = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == pad).int(),
    }
    return given | {"pixel_values": flat, "image_grid_thw": torch.tensor([grid] * len(images))}


# --- the same as transformers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "window"), [(56, 1120, 112), (84, 140, 56), (140, 252, 112), (28, 28, 112)]
)
def test_the_vision_tower_sees_on_a_canvas_what_transformers_sees(
    base: Path, height: int, width: int, window: int
) -> None:
    tower = Qwen2_5_VLForConditionalGeneration.from_pretrained(base).model.visual.eval()
    tower.config.window_size = tower.window_size = window
    vision, images = Vision(tower, height, width), torch.randn(3, 3, height, width)
    flat, rows, columns = Qwen2VLImageProcessor().patchify(images, 14, 2, 2)
    assert torch.equal(vision.patches(images), flat)
    with torch.no_grad():
        wanted = tower(flat.flatten(0, 1), grid_thw=torch.tensor([[1, rows, columns]] * 3)).pooler_output
        found = vision(images)
    assert found.shape == (3, vision.count, 32)
    assert (found.flatten(0, 1) - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("tied", [True, False])
def test_logits_and_greedy_texts_are_those_of_transformers(tmp_path: Path, tied: bool) -> None:
    folder = tiny_qwen.write(tmp_path / "base", tied)
    whole = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder).eval()
    model, images = built(folder).eval(), torch.randn(2, 3, HEIGHT, WIDTH)
    given = asked(model, whole, images)
    with torch.no_grad():
        seen = model.features(images)
        ours = model(seen, torch.tensor([model.generation.start] * 2))
        assert (whole(**given).logits - ours).abs().max() < 1e-4
        theirs = whole.generate(**given, do_sample=False, max_new_tokens=20)[:, len(model.generation.start) :]
    memory = {f"memory.{n}": v.numpy() for n, v in model.encode(seen).items()}
    written = generate.generate(TorchDecoder(model), memory, model.generation)
    ends = [row.tolist() for row in theirs]
    assert [tokens for tokens, _ in written] == [e[: e.index(2)] if 2 in e else e for e in ends]


# --- learning -------------------------------------------------------------------------------------


def test_images_of_any_size_share_a_batch(base: Path) -> None:
    sizes = [(300, 10), (20, 500), (86, 100), (1, 1)]
    images = [np.full((h, w, 3), 90, np.uint8) for h, w in sizes]
    lines = [Line(im, "red", f"corr_{n}", f"g{n}", f"p{n}") for n, im in enumerate(images)]
    model = built(base)
    lessons = TextLessons(model, Lines(lines, lines, []), replace(hyper(base), report_every=2), 0, 1)
    for batch in lessons.epoch(0):
        slots = ((batch.tokens < 0) & (batch.targets == -100)).sum(1)
        assert slots.tolist() == [batch.features.shape[1]] * 4 == [model.vision.count] * 4
        lessons.loss(model(*batch.inputs), batch).backward()


def test_only_adapters_learn_and_a_checkpoint_holds_nothing_else(base: Path) -> None:
    model = built(base)
    names = set(learned(model))
    assert names == {n for n, p in model.named_parameters() if p.requires_grad}
    assert len(names) == 2 * 2 * 2  # layers, projections, thin matrices
    assert all(f"{p}_proj.{m}" in "".join(names) for p in "qv" for m in ("down", "up"))
    state = {"alphabet": list(model.alphabet), "model": learned(model)}
    restore(built(base, seed=5), state)
    with pytest.raises(Damaged, match="another model"):
        restore(model, state | {"model": {}})


def test_activations_that_are_computed_again_give_the_same_gradients(base: Path) -> None:
    found = []
    for again in (False, True):
        model = built(base, checkpointing=again, dropout=0.2).train()
        for layer in [p for n, p in model.named_parameters() if n.endswith(".up")]:
            torch.nn.init.constant_(layer, 0.01)
        torch.manual_seed(3)
        model(
            torch.ones(2, model.vision.count, 32), torch.tensor([model.generation.start] * 2)
        ).sum().backward()
        found.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(torch.allclose(a, b, rtol=1e-5) for a, b in zip(*found, strict=True))


@pytest.fixture(scope="module")
def taught(base: Path) -> QwenVl:
    """A model that has learned ten words by heart, by its adapters alone."""
    model, lines = built(base, dropout=0.0), tiny_qwen.lines()
    own = replace(hyper(base), lr=0.01, copies=1, augment=0.0)
    lessons = TextLessons(model, Lines(lines, lines, []), own, 0, 1)
    optimiser = torch.optim.AdamW(model.parameter_groups(own))
    for number in range(5):
        for batch in lessons.epoch(number):
            optimiser.zero_grad()
            lessons.loss(model.train()(*batch.inputs), batch).backward()
            torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 1.0)
            optimiser.step()
        if (marks := lessons.mark()) and marks.cer == 0:
            return model
    raise AssertionError(f"not learned by heart: {marks}")


def test_it_is_marked_by_the_texts_that_it_writes(base: Path, taught: QwenVl) -> None:
    lines = [replace(line, text=f"{line.text}x") for line in tiny_qwen.lines()]
    marks = TextLessons(taught, Lines(lines, lines, []), hyper(base), 0, 1).mark()
    assert marks is not None
    assert marks.score == pytest.approx(marks.cer, abs=1e-5)
    assert marks.cer == pytest.approx(10 / sum(len(line.text) for line in lines))


# --- the bundle -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(taught: QwenVl, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    taught.to_bundle(folder, tiny_qwen.lines(), {"recipe": "qwen_vl_lora"})
    return folder


@pytest.mark.parametrize("precision", list(Precision))
def test_the_bundle_reads_what_the_model_reads(exported: Path, precision: Precision) -> None:
    manifest, reader = Manifest.load(exported), open_reader(exported, precision)
    assert manifest.precision is Precision.INT8, "INT8 loses nothing here"
    assert [reader.read(tiny_qwen.image(word)).text for word in tiny_qwen.WORDS] == tiny_qwen.WORDS
    sizes = {p: graph.bytes for p, graph in manifest.decoders.items()}
    assert sizes[Precision.INT8] < sizes[Precision.FP32]


def test_a_version_goes_on_from_its_bundle_alone(exported: Path, taught: QwenVl) -> None:
    again = qwen_vl_lora.build(
        exported, ["new"], hyper(Path("/nowhere"), width=28, rank=2, checkpointing=True)
    )
    assert (again.shape, again.generation, again.alphabet) == (
        taught.shape,
        taught.generation,
        taught.alphabet,
    )
    theirs, ours = taught.state_dict(), again.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs | ours)
    assert set(learned(again)) == set(learned(taught))
    assert again.language.checkpointing


def test_the_canvas_pads_with_paper(taught: QwenVl) -> None:
    tensor = to_tensor(np.zeros((56, 100, 3), np.uint8), taught.preprocessing)
    assert tensor.shape == (3, HEIGHT, WIDTH)
    assert tensor[:, :, :100].max() < -1 < 1.8 < tensor[:, :, 100:].min()


# --- the hub --------------------------------------------------------------------------------------


@pytest.mark.parametrize("merged", [False, True], ids=["adapters", "merged"])
def test_the_folder_for_the_hub_reads_in_transformers(
    taught: QwenVl, base: Path, tmp_path: Path, merged: bool
) -> None:
    header = qwen_hub.write(taught, tmp_path, merged, torch.float32)
    adapted = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path if merged else base).eval()
    if not merged:
        adapted = PeftModel.from_pretrained(adapted, tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    line = to_canvas(tiny_qwen.image("pencil"))
    content = [{"type": "image", "image": line}, {"type": "text", "text": taught.shape["prompt"]}]
    asked = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    given = processor.apply_chat_template([{"role": "user", "content": content}], **asked)
    start = given["input_ids"].shape[1]
    assert start == len(taught.generation.start)
    written = adapted.generate(**given, do_sample=False, max_new_tokens=20)[0, start:]
    assert processor.decode(written, skip_special_tokens=True) == "pencil"
    compile(header["use"].split("```python")[1].split("```")[0], "the card's program", "exec")
    assert "base_model" not in header, "the hub knows no folder of ours"
    taught.shape |= {"base": "Qwen/Qwen2.5-VL-3B-Instruct"}
    assert qwen_hub.header(taught, merged)["base_model"] == "Qwen/Qwen2.5-VL-3B-Instruct"
    taught.shape |= {"base": str(base)}


def to_canvas(image: np.ndarray) -> Image.Image:
    """What the card's program makes of a line."""
    height, width = image.shape[:2]
    share = min(HEIGHT / height, WIDTH / width)
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    sheet.paste(Image.fromarray(image).resize((round(width * share), round(height * share))))
    return sheet


# --- what is wrong is said ------------------------------------------------------------------------


def changed(base: Path, folder: Path, **fields: object) -> Path:
    shutil.copytree(base, folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


def test_bad_folders_are_refused_in_words(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadInput, match=r"no folder .*nowhere"):
        built(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="holds a qwen3 model"):
        built(changed(base, tmp_path / "other", model_type="qwen3"))
    with pytest.raises(BadInput, match=r"image_pad\|> is 6 in the one and 7 in the other"):
        built(changed(base, tmp_path / "mixed", image_token_id=7))
    strange = changed(base, tmp_path / "strange")
    file = strange / "tokenizer.json"
    file.write_text(file.read_text().replace("<|im_end|>", "<|the_end|>"))
    with pytest.raises(BadInput, match=r"lacks <\|im_end\|>"):
        built(strange)
    file.unlink()
    with pytest.raises(BadInput, match="no tokenizer at"):
        built(strange)
    with pytest.raises(BadInput, match="multiples of 28 px"):
        built(base, width=100)


def test_it_goes_on_from_its_own_kind_alone(exported: Path, base: Path, tmp_path: Path) -> None:
    other = tmp_path / "bundle"
    shutil.copytree(exported, other)
    manifest = Manifest.load(other)
    replace(manifest, lineage=manifest.lineage | {"recipe": "catr"}).save(other)
    with pytest.raises(BadInput, match="of its own kind alone"):
        qwen_vl_lora.build(other, [], hyper(base))
    with pytest.raises(BadInput, match="of its own kind alone"):
        catr.build(exported, [], catr.RECIPE.defaults)
