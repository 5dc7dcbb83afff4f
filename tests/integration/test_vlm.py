"""Versions that are adapters: trained, judged and served by a server that runs their base."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_qwen
import torch
import vlm_server
from mlflow_server import MlflowServer
from tokenizers import Tokenizer
from vlm_server import Vlm

from redpencil import generate
from redpencil.blobs import Blobs
from redpencil.bundle import Manifest
from redpencil.errors import BadInput, Damaged, NotReady, RedpencilError
from redpencil.pixels import to_tensor
from redpencil.reader import open_reader
from redpencil.store import Store
from redpencil.types import LedgerEntry, RunState, ServingState
from serving.follow import Loader
from training import cycle, lora, model_card, qwen_hub
from training.recipes import qwen_vl_lora
from training.recipes.qwen_vl_lora import QwenVl
from training.torch_decoder import TorchDecoder

SMALL = {"width": 112, "longest": 12, "lr": 0.01, "batch": 8, "steps": 80, "report_every": 40}
OWN = {"height": 56, "width": 112, "longest": 12, "form": "adapters"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_qwen.write(tmp_path_factory.mktemp("hub") / "tiny-qwen")
    qwen_hub.processor(Tokenizer.from_file(str(folder / "tokenizer.json"))).save_pretrained(folder)
    return folder


@pytest.fixture
def vlm(base: Path) -> Iterator[Vlm]:
    with vlm_server.running(base, key="secret") as server:
        yield server


def adapted(base: Path) -> QwenVl:
    """A model whose adapters say something."""
    torch.manual_seed(0)
    hyper = qwen_vl_lora.RECIPE.defaults.updated({"base": str(base), **OWN})
    model = qwen_vl_lora.build(None, (), hyper).eval()
    for _, layer in lora.adapters(model.language):
        torch.nn.init.normal_(layer.up, std=0.3)
    return model


def written(model: QwenVl, word: str) -> tuple[str, float]:
    tensor = torch.from_numpy(to_tensor(tiny_qwen.image(word), model.preprocessing))[None]
    with torch.inference_mode():
        seen = {f"memory.{n}": v.numpy() for n, v in model.encode(model.features(tensor)).items()}
    tokens, sure = generate.generate(TorchDecoder(model), seen, model.generation)[0]
    return model.tokenizer.decode(tokens).rstrip("\ufffd").strip(), float(np.mean(sure))


@pytest.fixture
def bundle(base: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    adapted(base).to_bundle(folder, (), {"recipe": "qwen_vl_lora"})
    return folder


def test_a_server_writes_what_torch_writes(base: Path, bundle: Path, vlm: Vlm) -> None:
    reader, model = open_reader(bundle, vlm=vlm.url), adapted(base)
    reader.warm()
    for word in tiny_qwen.WORDS:
        text, sure = written(model, word)
        found = reader.read(tiny_qwen.image(word))
        assert found.text.rstrip("\ufffd") == text
        assert len(found.char_confidence) == len(found.text)
        assert found.confidence == pytest.approx(sure, abs=0.05)


def test_adapters_are_given_again_to_a_server_that_was_started_anew(bundle: Path, vlm: Vlm) -> None:
    reader = open_reader(bundle, vlm=vlm.url)
    before = reader.read(tiny_qwen.image("red"))
    vlm.forget()
    assert reader.read(tiny_qwen.image("red")) == before


def test_a_server_that_hangs_up_is_asked_again_once(bundle: Path, vlm: Vlm) -> None:
    reader = open_reader(bundle, vlm=vlm.url)
    before = reader.read(tiny_qwen.image("red"))
    vlm.hangs_up = 1
    assert reader.read(tiny_qwen.image("red")) == before
    vlm.hangs_up = 2
    with pytest.raises(NotReady, match="does not answer"):
        reader.read(tiny_qwen.image("red"))


def test_what_is_wrong_with_a_server_is_said(base: Path, bundle: Path, vlm: Vlm) -> None:
    with pytest.raises(NotReady, match=r"REDPENCIL_VLM_URL names none; start one, .*vllm serve"):
        open_reader(bundle)
    with pytest.raises(NotReady, match=r"127.0.0.1:9/v1/ does not answer .*vllm serve"):
        open_reader(bundle, vlm="http://127.0.0.1:9/v1").warm()
    with pytest.raises(NotReady, match="answers 401") as told:
        open_reader(bundle, vlm=vlm.url.replace("secret", "another")).read(tiny_qwen.image("red"))
    assert "another" not in str(told.value)
    vlm.base = base.with_name("Qwen2.5-VL-72B")
    with pytest.raises(NotReady, match=r"runs .*Qwen2.5-VL-72B, and these adapters belong to .*tiny-qwen"):
        open_reader(bundle, vlm=vlm.url).warm()


def test_a_version_goes_on_from_its_adapters(base: Path, bundle: Path) -> None:
    hyper = qwen_vl_lora.RECIPE.defaults.updated({"base": "a name that does not count", **OWN})
    again, model = qwen_vl_lora.build(bundle, (), replace(hyper, form="auto")), adapted(base)
    assert again.as_adapters
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    assert not qwen_vl_lora.build(bundle, (), replace(hyper, form="onnx")).as_adapters


def test_a_bundle_of_adapters_contradicts_itself_aloud(bundle: Path) -> None:
    whole = (bundle / "bundle.json").read_text("utf-8")
    for field, value in (("decoder", "ctc"), ("adapters", None)):
        (bundle / "bundle.json").write_text(json.dumps(json.loads(whole) | {field: value}), "utf-8")
        with pytest.raises(Damaged, match="adapters and not the decoder vlm"):
            Manifest.load(bundle)


def test_a_model_too_large_for_onnx_has_adapters(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.half.LARGEST", 1000)
    hyper = qwen_vl_lora.RECIPE.defaults.updated({"base": str(base), **OWN | {"form": "auto"}})
    assert qwen_vl_lora.build(None, (), hyper).as_adapters
    with pytest.raises(BadInput, match="leave --param form=onnx out"):
        qwen_vl_lora.build(None, (), replace(hyper, form="onnx"))


def test_adapters_go_the_whole_way(base: Path, vlm: Vlm, mlflow_server: MlflowServer, tmp_path: Path) -> None:
    data = tiny_qwen.publish(tmp_path / "first", 60)
    house = tiny_qwen.furnish(tmp_path / "house", data, mlflow_url=mlflow_server.url, vlm_url=vlm.url)
    run = tiny_qwen.queue(house, base=str(base), form="adapters", **SMALL)
    with pytest.raises(RedpencilError, match="set REDPENCIL_VLM_URL to where it is or will be"):
        cycle.run(run, house.model_copy(update={"vlm_url": ""}))
    ended = cycle.run(run, house)
    assert (ended.state, ended.version) == (RunState.SUCCEEDED, "1")
    with Store.open(house.database) as store:
        verdict = store.versions.verdict(house.model, "1")
        assert verdict is not None
        assert verdict.scores["holdout"]["cer"]["fp32"] < 0.5
        entry = LedgerEntry("led_1", 1.0, "test", "adopt", house.model, None, "1", "the first")
        store.serving.change(ServingState(house.model, 1, champion="1"), entry)
        loader = Loader(store, Blobs.open(house.blobs), house.model, house.home / "bundles", "cpu", vlm.url)
        said = [loader.load("1").bundle.read(tiny_qwen.image(w)).text for w in tiny_qwen.WORDS[:4]]
        assert sum(a == b for a, b in zip(said, tiny_qwen.WORDS, strict=False)) >= 3

        again = cycle.run(tiny_qwen.queue(house, **SMALL | {"steps": 10, "lr": 1e-4}), house)
        assert store.versions.get(house.model, again.version).parent == "1"
    assert len(vlm.adapters) == 2, "both versions are there, side by side"
    card = model_card.publish(f"{house.model}/1", tmp_path / "hub", house) / "README.md"
    assert "The gate says **" in card.read_text("utf-8")
