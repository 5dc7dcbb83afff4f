"""Every family computes on the device of its weights: torch's fake tensors lie on a GPU that is not there.

They have a shape, a type and a device and no values; an operation that mixes devices raises as on a real one.
Backward passes and kernels need a real GPU.
"""

from dataclasses import fields, replace
from typing import Any

import pytest
import tiny_models
import tiny_qwen
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from training import frozen, recipe
from training.crops import Line
from training.device import autocast
from training.image_to_text import ImageToText
from training.job import Lines
from training.recipe import LineModel
from training.recipes import crnn, ppocr

TEXTS = ["red bar", "two bars"]
LINES = [Line(tiny_qwen.image(t), t, f"corr_{t}", t, f"place-{t}") for t in TEXTS]
GPU = torch.device("cuda:0")
SEEN = {"vision_width": 16, "vision_layers": 1, "vision_heads": 2, "vision_inner": 16}
SMALL: dict[str, dict[str, Any]] = {
    "crnn": {"start": "scratch"},
    "ppocr": {},
    "catr": {"backbone": "resnet18", "side": 32, "encoder_layers": 1, "decoder_layers": 1},
    "vit_gated": {"height": 16, "width": 64, "patch": 8, "layers": 3, "longest": 16, "vocabulary": 300}
    | SEEN,
    "clip_prefix": {"prefix": 2, "inner": 8, "lora_r": 2, "unfreeze": 1, "longest": 16},
    "qwen_vl_lora": {"height": 56, "width": 112, "longest": 20, "rank": 2, "checkpointing": True},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    root = tmp_path_factory.mktemp("models")
    clip, language = tiny_models.save_clip(root / "clip"), tiny_models.save_language(root / "text", TEXTS, 1)
    return {
        "clip_prefix": {"vision": str(clip), "language": str(language)},
        "qwen_vl_lora": {"base": str(tiny_qwen.write(root / "qwen"))},
    }


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what has no fake: a GPU's abilities, an LSTM, packed lines, CTC (lengths may lie anywhere)."""

    def packed(x: Tensor, widths: Tensor, **_: bool) -> Tensor:
        assert widths.device.type == "cpu"  # as torch wants it
        return x

    def ctc(logp: Tensor, targets: Tensor, *lengths: Tensor, zero_infinity: bool) -> Tensor:
        assert targets.device == logp.device
        return logp.sum()

    def lstm(self: nn.LSTM, x: Tensor) -> tuple[Tensor, None]:
        assert {weight.device for weight in self.parameters()} == {x.device}
        assert x.dtype is torch.float32
        assert not torch.is_autocast_enabled(x.device.type)
        return x.new_zeros(*x.shape[:2], 2 * self.hidden_size), None

    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(nn.LSTM, "forward", lstm)
    monkeypatch.setattr(crnn, "pack_padded_sequence", packed)
    monkeypatch.setattr(crnn, "pad_packed_sequence", lambda x, **_: (x, None))
    monkeypatch.setattr(recipe.F, "ctc_loss", ctc)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the real recogniser of ppocr, and without a graph of its frozen part, which a GPU has not."""
    alphabet = tuple(sorted(set("".join(TEXTS))))
    monkeypatch.setattr(ppocr, "from_paddle", lambda _: ppocr.PPOCR(alphabet))
    monkeypatch.setattr(frozen, "_session", lambda _: None)


def there(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=GPU, requires_grad=tensor.requires_grad)


def moved(*models: nn.Module) -> None:
    """As `.to(GPU)`: what is no parameter and no registered buffer stays behind."""
    for part in (part for model in models for part in model.modules()):
        for kept in (part._parameters, part._buffers):
            kept.update({name: there(tensor) for name, tensor in kept.items() if tensor is not None})


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.usefixtures("stand_ins", "quick")
def test_learning_and_marking_mix_no_devices(family: str, folders: dict[str, dict[str, str]]) -> None:
    chosen = recipe.find(family)
    params = {"batch": 2, "report_every": 1, "smoothing": 0.1} | SMALL[family] | folders.get(family, {})
    hyper = chosen.hyper(params, None)
    model = chosen.build(None, TEXTS, hyper)
    lessons = model.lessons(Lines(LINES, []), hyper)
    batch: Any = next(lessons.epoch(0))
    with FakeTensorMode(shape_env=ShapeEnv()):  # which knows that a mask leaves some number of values
        moved(model, *getattr(model, "start", ()))  # ppocr's is a copy of what has been moved
        batch = type(batch)(*(there(getattr(batch, f.name)) for f in fields(batch)))
        if isinstance(model, LineModel):
            batch = replace(batch, rehearsed=None)  # without values nobody knows whether there are any
        with autocast(GPU, hyper):
            answer = model.train()(*batch.inputs)
        assert lessons.loss(answer, batch).device == GPU
        p = model.preprocessing
        assert model.features(torch.zeros(1, 3, p.height, p.width or 64, device=GPU)).device == GPU
        read = heard if isinstance(model, LineModel) else written
        assert read(model.eval(), *batch.inputs).device == GPU


def heard(model: LineModel, features: Tensor, widths: Tensor) -> Tensor:
    """As validation reads, and as a graph does, which is not told of widths."""
    model.heard(features)
    return model.heard(features, widths)[1]


def written(model: ImageToText, features: Tensor, tokens: Tensor) -> Tensor:
    """Behind a past of three tokens, as validation writes."""
    past = {n: torch.zeros(2, h, 3, d, device=GPU) for n, (h, d) in model.past_shapes.items()}
    length = torch.full((2,), 3, device=GPU)
    return model.decode(tokens[:, -1:], length, model.encode(features), past)[0]
