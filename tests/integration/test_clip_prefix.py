"""clip_prefix learns captions by its adapter alone, and its bundle is all that the next version needs."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tiny_models import save_clip, save_language
from torch import Tensor
from transformers import AutoModelForCausalLM, CLIPVisionModel

from redpencil import generate
from redpencil.bundle import Manifest
from redpencil.errors import BadInput
from redpencil.pixels import to_tensor
from redpencil.reader import open_reader
from redpencil.types import Precision
from training import dynamic_int8, half
from training.crops import Line
from training.job import Lines, learned, restore
from training.recipe import find
from training.recipes.clip_prefix import ClipPrefix, ClipPrefixHyper, build
from training.torch_decoder import TorchDecoder

COLOURS = {"red": (210, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
SIZES = {"one": 1, "two": 2}


def pictures() -> list[Line]:
    """Bars of a colour, each picture with two captions."""
    found = []
    for n, (colour, rgb) in enumerate(COLOURS.items()):
        for word, count in SIZES.items():
            image = np.full((40, 48, 3), 15, np.uint8)
            for bar in range(count):
                image[4 + 18 * bar : 16 + 18 * bar, 6:42] = rgb
            name = f"{n}-{count}"
            bars = "bar" if count == 1 else "bars"
            texts = f"{word} {colour} {bars} on black", f"a picture of {word} {colour} {bars}"
            found += [Line(image, text, f"{name}-{k}", name, name) for k, text in enumerate(texts)]
    return found


@dataclass(frozen=True)
class World:
    """Folders as transformers saves models, and a model that has learned by its adapter alone."""

    vision: Path
    language: Path
    model: ClipPrefix
    hyper: ClipPrefixHyper
    before: dict[str, Tensor]

    def bundle(self, folder: Path) -> Path:
        folder.mkdir()
        self.model.to_bundle(folder, pictures(), {"recipe": "clip_prefix"})
        return folder


def learn(model: ClipPrefix, hyper: ClipPrefixHyper, lines: Sequence[Line], steps: int) -> float:
    """The last loss."""
    lessons = model.lessons(Lines(list(lines), [], []), replace(hyper, report_every=steps))
    optimiser = torch.optim.AdamW(model.parameter_groups(hyper))
    model.train()
    for batch in lessons.epoch(0):
        optimiser.zero_grad()
        loss = lessons.loss(model(*batch.inputs), batch)
        loss.backward()
        optimiser.step()
    model.eval()
    return float(loss.detach())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("models")
    texts = sorted({line.text for line in pictures()})
    vision, language = save_clip(root / "clip"), save_language(root / "language", texts, steps=150)
    chosen = {"vision": str(vision), "language": str(language), "prefix": 4, "inner": 64, "longest": 16}
    hyper = find("clip_prefix").defaults.updated({**chosen, "batch": 12, "lr": 3e-3})
    assert isinstance(hyper, ClipPrefixHyper)
    torch.manual_seed(0)
    model = build(None, texts, hyper)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learn(model, hyper, pictures()[::2], steps=150)
    return World(vision, language, model, hyper, before)


def tensors(model: ClipPrefix) -> Tensor:
    return torch.from_numpy(np.stack([to_tensor(x.image, model.preprocessing) for x in pictures()[::2]]))


@torch.inference_mode()
def written(model: ClipPrefix) -> list[str]:
    memory = {"memory.prefix": model.encode(model.features(tensors(model)))["prefix"].numpy()}
    found = generate.generate(TorchDecoder(model), memory, model.generation)
    return [model.tokenizer.decode(ids) for ids, _ in found]


@torch.inference_mode()
def logits(model: ClipPrefix) -> Tensor:
    start = torch.tensor([*model.generation.start, 7, 9])
    return model.eval()(model.features(tensors(model)), start.expand(6, -1))


def test_the_adapter_alone_learns_by_heart(world: World) -> None:
    assert written(world.model) == [line.text for line in pictures()[::2]]
    changed = {n for n, v in world.model.state_dict().items() if not torch.equal(v, world.before[n])}
    assert changed
    assert all(name.startswith("adapter.") for name in changed)


def test_a_checkpoint_holds_the_adapter_alone(world: World) -> None:
    kept = {"model": learned(world.model), "alphabet": list(world.model.alphabet)}
    assert {name.split(".")[0] for name in kept["model"]} == {"adapter"}
    again = build(None, (), world.hyper)
    restore(again, kept)
    assert torch.equal(logits(again), logits(world.model))


@torch.inference_mode()
def test_kept_keys_and_values_write_what_transformers_generates(world: World) -> None:
    vision = CLIPVisionModel.from_pretrained(world.vision).eval()
    language = AutoModelForCausalLM.from_pretrained(world.language).eval()
    seen = vision(tensors(world.model)).pooler_output
    end = world.model.generation.end
    for model in (world.model, build(None, (), world.hyper).eval()):  # the second has learned nothing
        prefix = model.adapter(seen)
        wanted = language.generate(
            inputs_embeds=prefix, max_new_tokens=16, do_sample=False, eos_token_id=end, pad_token_id=end
        )
        texts = [model.tokenizer.decode([t for t in row.tolist() if t != end]) for row in wanted]
        assert written(model) == texts


def test_the_bundle_writes_the_same_and_is_all_that_is_needed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = world.bundle(tmp_path / "bundle")
    manifest = Manifest.load(folder)
    assert set(manifest.graphs) == {Precision.FP32, Precision.INT8}
    for precision in Precision:
        reader = open_reader(folder, precision)
        assert [reader.read(x.image).text for x in pictures()[::2]] == [x.text for x in pictures()[::2]]
    gone = replace(world.hyper, vision="/gone", language="/gone", beams=2, length_penalty=0.7)
    again = build(folder, [], gone)
    assert again.generation == replace(manifest.generation, beams=2, length_penalty=0.7)
    assert torch.allclose(logits(again), logits(world.model), atol=1e-6)
    assert {n for n, p in again.named_parameters() if p.requires_grad} == set(learned(world.model))


def test_what_learns_is_the_runs_choice(world: World, tmp_path: Path) -> None:
    chosen = replace(world.hyper, lora_r=4, unfreeze=1, language_lr=1e-3)
    model = build(None, (), chosen)
    frozen = [p for n, p in model.named_parameters() if n.startswith(("vision.", "language.layers.0.mlp"))]
    assert not any(p.requires_grad for p in frozen)
    assert learn(model, chosen, pictures()[::2], steps=60) < 0.3
    beside = {n for n in learned(model) if n.endswith((".up", ".down"))}
    assert len(beside) == 8, "two matrices beside queries and values of two layers"
    model.to_bundle(tmp_path, pictures(), {"recipe": "clip_prefix"})
    wanted = logits(model)
    for again in (build(tmp_path, [], chosen), build(tmp_path, [], world.hyper)):
        assert torch.allclose(logits(again), wanted, atol=1e-5)
    assert {n.split(".")[0] for n in learned(again)} == {"adapter"}, "the second run chose the adapter alone"


def test_captions_follow_a_prompt(world: World) -> None:
    model = build(None, (), replace(world.hyper, prompt="a picture of"))
    prompt = model.tokenizer.encode("a picture of").ids
    assert list(model.generation.start) == [-1, -2, -3, -4, *prompt]
    spelled = model.spell("one bar")
    assert model.tokenizer.decode([*prompt, *spelled[:-1]]) == "a picture of one bar"
    assert spelled[-1] == model.generation.end == model.tokenizer.token_to_id("[END]")


def test_what_no_file_could_hold_is_kept_in_half_precision(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [world.bundle(tmp_path / "whole").joinpath("decoder.fp32.onnx").stat().st_size]
    model = build(tmp_path / "whole", [], world.hyper)
    monkeypatch.setattr(half, "LARGEST", half.size(model.language) * 2 // 3)
    (tmp_path / "half").mkdir()
    manifest = model.to_bundle(tmp_path / "half", pictures(), {"recipe": "clip_prefix"})
    sizes.append(tmp_path.joinpath("half/decoder.fp32.onnx").stat().st_size)
    assert sizes[1] < 0.7 * sizes[0]
    assert manifest.precision is Precision.INT8
    stored = onnx.load(tmp_path / "half" / "decoder.int8.onnx").graph.initializer
    large = [t for t in stored if np.prod(t.dims) >= dynamic_int8.FEWEST]
    assert {t.data_type for t in large} == {onnx.TensorProto.INT8}, "halves become INT8 too"
    for precision in Precision:
        reader = open_reader(tmp_path / "half", precision)
        assert [reader.read(x.image).text for x in pictures()[::2]] == [x.text for x in pictures()[::2]]
    again = build(tmp_path / "half", [], world.hyper)
    assert torch.allclose(logits(again), logits(world.model), atol=0.05)
    monkeypatch.setattr(half, "LARGEST", half.size(model.language) // 3)
    with pytest.raises(BadInput, match="in half precision, and an ONNX file holds"):
        build(None, (), world.hyper)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda h: replace(h, vision=h.language), "holds a qwen3 model; the vision model has to be a CLIP"),
        (lambda h: replace(h, language=h.vision), "holds a clip_vision_model model; known are"),
        (lambda h: replace(h, vision="/no/clip"), "there is no folder /no/clip"),
    ],
)
def test_a_wrong_folder_is_refused(world: World, spoil: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        build(None, (), spoil(world.hyper))


@pytest.mark.parametrize(
    ("part", "file", "content", "said"),
    [
        ("language", "tokenizer_config.json", "{oh", "tokenizer_config.json is not JSON"),
        ("language", "tokenizer_config.json", "[1]", "tokenizer_config.json holds no JSON object"),
        (
            "language",
            "tokenizer_config.json",
            '{"eos_token": "</s>"}',
            "lacks '</s>', with which tokenizer_config",
        ),
        ("vision", "preprocessor_config.json", "{oh", "preprocessor_config.json is not JSON"),
        (
            "vision",
            "preprocessor_config.json",
            '{"image_mean": 0.5}',
            "image_mean is three numbers, .*not 0.5",
        ),
        ("vision", "preprocessor_config.json", '{"image_std": [1, 2, "x"]}', "image_std is three numbers"),
    ],
)
def test_a_damaged_file_of_a_folder_is_named(
    world: World, tmp_path: Path, part: str, file: str, content: str, said: str
) -> None:
    folder = tmp_path / part
    shutil.copytree(getattr(world, part), folder)
    (folder / file).write_text(content)
    with pytest.raises(BadInput, match=said):
        build(None, (), replace(world.hyper, **{part: str(folder)}))


def test_a_missing_end_and_another_family_are_refused(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.language, tmp_path / "language")
    (tmp_path / "language" / "tokenizer_config.json").unlink()
    with pytest.raises(BadInput, match="names no end of text"):
        build(None, (), replace(world.hyper, language=str(tmp_path / "language")))
    folder = world.bundle(tmp_path / "bundle")
    replace(Manifest.load(folder), lineage={"recipe": "catr"}).save(folder)
    with pytest.raises(BadInput, match="bundles of its own kind alone"):
        build(folder, (), world.hyper)
