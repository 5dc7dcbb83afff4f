"""What is asked of a server of vision-language models, and how one is started."""

import json
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import tiny_bundle

from redpencil import vlm
from redpencil.bundle import Adapters, Graph, Manifest

SAID = {"choices": [{"message": {"content": "red"}, "finish_reason": "stop"}]}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    tiny_bundle.build(tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text("{}")
    adapters = Adapters("base", 8, "", "What is it?", 10, Graph.of(config))
    shape = replace(tiny_bundle.preprocessing(), width=100)
    replace(Manifest.load(tmp_path), decoder="vlm", adapters=adapters, preprocessing=shape).save(tmp_path)
    return tmp_path


def test_nothing_of_how_it_is_decoded_is_left_to_the_server(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a question leaves out, vLLM takes from the model's generation_config.json."""
    asked = list[dict]()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return httpx.Response(200, json=SAID)

    here = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://there/v1/")
    monkeypatch.setattr(vlm, "client", lambda _: here)
    assert vlm.VlmReader(bundle, "http://there/v1").read(np.zeros((32, 64, 3), np.uint8)).text == "red"
    (question,) = asked
    wanted = {"temperature": 0, "repetition_penalty": 1.0, "top_p": 1.0, "top_k": -1, "max_tokens": 10}
    assert question | wanted == question


@pytest.mark.parametrize(("rank", "allowed"), [(4, 8), (8, 8), (24, 32), (257, 320), (512, 512)])
def test_vllm_is_started_with_a_rank_that_it_takes(rank: int, allowed: int) -> None:
    assert f"--max-lora-rank {allowed}, or without a GPU python -m training.vlm_server base" in vlm.start_of(
        "base", rank
    )
