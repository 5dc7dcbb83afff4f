"""Versions that are adapters: trained, judged and served by a server that runs their base."""

import base64
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import tiny_qwen
import torch
import vlm_server
from mlflow_server import MlflowServer
from tokenizers import Tokenizer
from vlm_server import Running

from redpencil import generate
from redpencil.blobs import Blobs
from redpencil.bundle import Manifest
from redpencil.errors import BadInput, Conflict, Damaged, NotReady, RedpencilError
from redpencil.pixels import to_tensor
from redpencil.ports import free
from redpencil.reader import open_reader
from redpencil.store import Store
from redpencil.types import LedgerEntry, RunState, ServingState
from redpencil.vlm import VlmReader, client
from serving.follow import Loader
from training import cycle, lora, model_card, qwen_hub
from training import vlm_server as server_command
from training.recipes import qwen_vl_lora
from training.recipes.qwen_vl_lora import QwenVl
from training.torch_decoder import TorchDecoder

SMALL = {"width": 112, "longest": 12, "lr": 0.01, "batch": 8, "steps": 80, "report_every": 40}
OWN = {"height": 56, "width": 112, "longest": 12, "form": "adapters"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_qwen.write(tmp_path_factory.mktemp("hub") / "tiny-qwen")
    qwen_hub.processor(Tokenizer.from_file(str(folder / "tokenizer.json"))).save_pretrained(folder)
    sampled = {"do_sample": True, "temperature": 0.9, "top_k": 3, "repetition_penalty": 3.0}
    (folder / "generation_config.json").write_text(json.dumps(sampled))  # which nothing here goes by
    return folder


@pytest.fixture
def vlm(base: Path) -> Iterator[Running]:
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


def test_a_server_writes_what_torch_writes(base: Path, bundle: Path, vlm: Running) -> None:
    reader, model = open_reader(bundle, vlm=vlm.url), adapted(base)
    reader.warm()
    for word in tiny_qwen.WORDS:
        text, sure = written(model, word)
        found = reader.read(tiny_qwen.image(word))
        assert found.text.rstrip("\ufffd") == text
        assert len(found.char_confidence) == len(found.text)
        assert found.confidence == pytest.approx(sure, abs=0.05)


def test_adapters_are_given_again_to_a_server_that_was_started_anew(bundle: Path, vlm: Running) -> None:
    reader = open_reader(bundle, vlm=vlm.url)
    before = reader.read(tiny_qwen.image("red"))
    vlm.forget()
    assert reader.read(tiny_qwen.image("red")) == before


def test_a_server_that_hangs_up_is_asked_again_once(bundle: Path, vlm: Running) -> None:
    reader = open_reader(bundle, vlm=vlm.url)
    before = reader.read(tiny_qwen.image("red"))
    vlm.hangs_up = 1
    assert reader.read(tiny_qwen.image("red")) == before
    vlm.hangs_up = 2
    with pytest.raises(NotReady, match="does not answer"):
        reader.read(tiny_qwen.image("red"))


def test_what_is_wrong_with_a_server_is_said(base: Path, bundle: Path, vlm: Running) -> None:
    with pytest.raises(
        NotReady, match=r"REDPENCIL_VLM_URL names none; start one, .*vllm serve .*training.vlm_server"
    ):
        open_reader(bundle)
    with pytest.raises(NotReady, match=r"127.0.0.1:9/v1/ does not answer .*vllm serve"):
        open_reader(bundle, vlm="http://127.0.0.1:9/v1").warm()
    with pytest.raises(NotReady, match="answers 401") as told:
        open_reader(bundle, vlm=vlm.url.replace("secret", "another")).read(tiny_qwen.image("red"))
    assert "another" not in str(told.value)
    vlm.model.name = vlm.model.root = str(base.with_name("Qwen2.5-VL-72B"))
    with pytest.raises(NotReady, match=r"runs .*Qwen2.5-VL-72B, and these adapters belong to .*tiny-qwen"):
        open_reader(bundle, vlm=vlm.url).warm()


def test_several_adapters_and_their_base_are_asked_side_by_side(
    base: Path, bundle: Path, vlm: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.vlm_model.MOST", 2)
    reader = open_reader(bundle, vlm=vlm.url)
    assert isinstance(reader, VlmReader)
    adapted_text = reader.read(tiny_qwen.image("red"))
    model, plain = vlm.model, replaced(reader, vlm.model.name)
    alone = plain.read(tiny_qwen.image("red"))
    assert alone.text != adapted_text.text
    for name in ("second", "third"):
        model.load(name, bundle)
        assert replaced(reader, name).read(tiny_qwen.image("red")) == adapted_text
    assert list(model.adapters) == ["second", "third"], "the one that was asked least lately is gone"
    assert plain.read(tiny_qwen.image("red")) == alone
    assert reader.read(tiny_qwen.image("red")) == adapted_text, "and is taken in again"
    with pytest.raises(Conflict, match="already been loaded"):
        model.load("third", bundle)
    model.load("third", bundle, anew=True)
    assert replaced(reader, "third").read(tiny_qwen.image("red")) == adapted_text


def replaced(reader: VlmReader, name: str) -> VlmReader:
    """The same reader, asking another model."""
    other = copy.copy(reader)
    other.name = name
    return other


def test_adapters_that_do_not_fit_are_refused(bundle: Path, vlm: Running) -> None:
    config, weights = bundle / "adapter_config.json", bundle / "adapter_model.safetensors"
    whole, stored = config.read_text("utf-8"), weights.read_bytes()

    def refused(match: str, **told: object) -> None:
        config.write_text(json.dumps(json.loads(whole) | told))
        with pytest.raises(BadInput, match=match):
            vlm.model.load("bad", bundle)

    refused("belong to Qwen/Qwen2.5-VL-7B, and tiny-qwen runs", base_model_name_or_path="Qwen/Qwen2.5-VL-7B")
    refused("do not fit tiny-qwen: .*lora_A", r=31)
    refused("do not fit", peft_type="IA3")
    refused("peft cannot load", target_modules=["no_such_layer"])
    weights.write_bytes(stored[:1000])
    refused("cannot be read")
    weights.unlink()
    refused(r"there is no .*adapter_model.safetensors; the server must see")
    weights.write_bytes(stored)
    config.write_text(whole)
    assert open_reader(bundle, vlm=vlm.url).read(tiny_qwen.image("red")).text


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"messages": [{"role": "user", "content": "<|image_pad|>"}]}, 422, "stands for an image"),
        ({"max_tokens": 5000}, 422, "more than 4096"),
        ({"model": "unknown"}, 404, "does not exist"),
        ({"url": "http://127.0.0.1/secret.png"}, 422, "nothing is fetched"),
        ({"url": "data:image/png;base64,@@"}, 422, "not base64"),
        ({"url": "data:image/png;base64,AAAA"}, 422, "image"),
        ({"side": 30}, 422, "multiples of 28 px, not 30 x 30"),
    ],
)
def test_questions_that_cannot_be_answered_are_refused(
    vlm: Running, change: dict[str, object], status: int, said: str
) -> None:
    side = int(str(change.pop("side", 28)))
    png = cv2.imencode(".png", np.zeros((side, side, 3), np.uint8))[1].tobytes()
    url = change.pop("url", f"data:image/png;base64,{base64.b64encode(png).decode()}")
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    asked = {"model": vlm.model.name, "messages": [message], "max_tokens": 2} | change
    told = client(vlm.url).post("chat/completions", json=asked)
    assert told.status_code == status
    assert said in told.json()["error"]["message"]


def test_it_is_started_as_a_command_and_ended_by_a_signal(base: Path, bundle: Path) -> None:
    (port,) = free(1)
    argv = [sys.executable, "-m", "training.vlm_server", str(base), "--port", str(port), "--threads", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, env=os.environ | {"VLLM_API_KEY": "secret"}, **pipes) as server:
        try:
            said = server.stdout.readline()
            assert said == f"{base} answers; REDPENCIL_VLM_URL=http://KEY@127.0.0.1:{port}/v1\n"
            url = f"http://secret@127.0.0.1:{port}/v1"
            until_ready(url)
            taken = [*argv[:3], "elsewhere", "--port", str(port)]
            other = subprocess.run(taken, capture_output=True, text=True)
            assert (other.returncode, other.stderr.count("\n")) == (1, 1)
            assert f"port {port} is taken; end what listens there, or set another --port" in other.stderr
            assert open_reader(bundle, vlm=url).read(tiny_qwen.image("red")).text
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        assert "Traceback" not in server.stderr.read()


def until_ready(url: str) -> None:
    while True:
        try:
            return client(url).get("../health").raise_for_status() and None
        except httpx.TransportError:
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["/no/such/folder"], "there is no folder /no/such/folder"),
        (["{empty}"], "config.json is missing"),
        (["{other}"], "holds a bert model; qwen_vl_lora adapts qwen2_5_vl"),
        (["{empty}", "--host", "0.0.0.0"], "beyond loopback: set VLLM_API_KEY"),
    ],
)
def test_what_cannot_be_served_is_said(
    given: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("empty", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "bert"}')
    folders = {name: str(tmp_path / name) for name in ("empty", "other")}
    argv = ["vlm_server", *(part.format(**folders) for part in given), "--port", str(free(1)[0])]
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert server_command.main() == 1
    assert said in capsys.readouterr().err


def test_a_version_goes_on_from_its_adapters(base: Path, bundle: Path, tmp_path: Path) -> None:
    hyper = qwen_vl_lora.RECIPE.defaults.updated(OWN)
    again, model = qwen_vl_lora.build(bundle, (), replace(hyper, form="auto")), adapted(base)
    assert again.as_adapters
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    assert not qwen_vl_lora.build(bundle, (), replace(hyper, form="onnx")).as_adapters
    moved = shutil.copytree(base, tmp_path / "moved")
    assert qwen_vl_lora.build(bundle, (), replace(hyper, base=str(moved))).shape["base"] == str(moved)


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


def test_adapters_go_the_whole_way(
    base: Path, vlm: Running, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
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
    assert len(vlm.model.adapters) == 2, "both versions are there, side by side"
    card = model_card.publish(f"{house.model}/1", tmp_path / "hub", house) / "README.md"
    assert "The gate says **" in card.read_text("utf-8")
