"""Language models decode here as transformers decodes them, and what is wrong with a folder is said."""

import json
from pathlib import Path

import pytest
import torch
from tiny_models import FAMILIES, language_model, save_language
from tokenizers import Tokenizer
from torch import Tensor
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

from redpencil.errors import BadInput
from training import causal_lm
from training.causal_lm import CausalLM
from training.image_to_text import Named

IDS = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(0))
TEXTS = ["a red bar", "two blue bars", "no bar at all"]


def nothing(model: CausalLM, rows: int) -> Named:
    return {name: torch.zeros(rows, heads, 0, size) for name, (heads, size) in model.past_shapes.items()}


def in_steps(model: CausalLM, vectors: Tensor, cut: int, positions: Tensor | None = None) -> Tensor:
    """Logits of vectors that come in two parts."""
    begin = torch.zeros(len(vectors), dtype=torch.long)
    places = (None, None) if positions is None else (positions[..., :cut], positions[..., cut:])
    first, kept = model(vectors[:, :cut], begin, nothing(model, len(vectors)), places[0])
    return torch.cat([first, model(vectors[:, cut:], begin + cut, kept, places[1])[0]], 1)


@pytest.mark.parametrize("kind", FAMILIES)
@torch.inference_mode()
def test_a_model_answers_as_in_transformers_at_once_and_in_steps(kind: str) -> None:
    whole = language_model(kind)
    wanted = whole(input_ids=IDS).logits
    model = CausalLM(whole.model, whole.lm_head).eval()
    vectors = model.embed(IDS)
    alone, _ = model(vectors, torch.zeros(2, dtype=torch.long), nothing(model, 2))
    assert wanted.std() > 0.1
    assert torch.allclose(alone, wanted, atol=1e-4)
    assert torch.allclose(in_steps(model, vectors, 5), wanted, atol=1e-4)


@torch.inference_mode()
def test_positions_of_three_axes_turn_as_in_transformers() -> None:
    torch.manual_seed(0)
    turn = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 300}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    body = Qwen2_5_VLTextModel(Qwen2_5_VLTextConfig(**sizes, **heads, rope_parameters=turn)).eval()
    head = torch.nn.Linear(32, 300, bias=False)
    positions = torch.randint(0, 30, (3, 2, 9))
    wanted = head(body(input_ids=IDS, position_ids=positions).last_hidden_state)
    model = CausalLM(body, head)
    assert torch.allclose(in_steps(model, model.embed(IDS), 4, positions), wanted, atol=1e-4)


@torch.inference_mode()
def test_rows_of_different_length_share_a_step() -> None:
    whole = language_model("qwen3")
    model = CausalLM(whole.model, whole.lm_head)
    vectors, begin = model.embed(IDS), torch.zeros(2, dtype=torch.long)
    _, kept = model(vectors[:, :6], begin, nothing(model, 2))
    lengths = torch.tensor([6, 3])  # of the second row the rest is padding
    together, _ = model(torch.stack([vectors[0, 6:8], vectors[1, 3:5]]), lengths, kept)
    wanted = whole(input_ids=IDS).logits
    assert torch.allclose(together, torch.stack([wanted[0, 6:8], wanted[1, 3:5]]), atol=1e-4)


def test_negative_tokens_are_rows_of_the_prefix() -> None:
    whole = language_model("llama")
    model = CausalLM(whole.model, whole.lm_head)
    prefix = torch.randn(1, 3, 32)
    vectors = model.embed(torch.tensor([[-1, -3, 7]]), prefix)
    assert torch.equal(vectors[0, :2], prefix[0, [0, 2]])
    assert torch.equal(vectors[0, 2], model.words.weight[7])


def test_activations_computed_again_give_the_same_gradients() -> None:
    whole = language_model("qwen3")
    model = CausalLM(whole.model, whole.lm_head).train()
    found = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        model(model.embed(IDS), torch.zeros(2, dtype=torch.long), nothing(model, 2))[0].logsumexp(
            -1
        ).sum().backward()
        found.append(model.layers[0].self_attn.q_proj.weight.grad.clone())
    assert torch.allclose(*found)


def test_words_and_head_that_are_one_stay_one_and_a_configuration_is_enough_to_build_anew() -> None:
    tied, apart = (CausalLM(m.model, m.lm_head) for m in map(language_model, ("qwen3", "qwen2")))
    assert tied.head is None
    assert apart.head is not None
    for model in (tied, apart):
        again = causal_lm.of_config(json.loads(json.dumps(causal_lm.plain(model.config))))
        assert {n: v.shape for n, v in again.state_dict().items()} == {
            n: v.shape for n, v in model.state_dict().items()
        }


def test_a_folder_is_loaded_with_its_tokenizer(tmp_path: Path) -> None:
    model, tokenizer = causal_lm.load(save_language(tmp_path, TEXTS, steps=1))
    assert tokenizer.decode(tokenizer.encode(TEXTS[0]).ids) == TEXTS[0]
    assert model.hidden == 32


@pytest.mark.parametrize("name", ["/nowhere/qwen", "Qwen/Qwen3-0.6B-Base", "no such name at all"])
def test_without_folder_and_network_the_way_to_get_the_model_is_said(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadInput, match="there is no folder") as said:
        causal_lm.load(name)
    assert ("hf download Qwen" in str(said.value)) == name.startswith("Qwen")


def spoil_config(folder: Path, **fields: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    folder = save_language(tmp_path / "lm", TEXTS, steps=1)
    (folder / "tokenizer.json").rename(folder / "kept")
    with pytest.raises(BadInput, match="there is no tokenizer at"):
        causal_lm.load(folder)
    strange = Tokenizer.from_file(str(folder / "kept"))
    strange.add_tokens([f"[{n}]" for n in range(strange.get_vocab_size(), 301)])
    strange.save(str(folder / "tokenizer.json"))
    with pytest.raises(BadInput, match=r"'\[300\]' of id 300, the model has ids up to 299"):
        causal_lm.load(folder)
    spoil_config(folder, num_hidden_layers=3)
    with pytest.raises(BadInput, match="transformers cannot load"):
        causal_lm.load(folder)
    spoil_config(folder, layer_types=["full_attention"] * 3)
    with pytest.raises(BadInput, match=r"lack model\.layers\.2"):
        causal_lm.load(folder)
    spoil_config(folder, model_type="bert")
    with pytest.raises(BadInput, match="holds a bert model; known are qwen3"):
        causal_lm.load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(BadInput, match="is not JSON"):
        causal_lm.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match="is missing"):
        causal_lm.load(folder)


def test_weights_that_are_cut_short_or_of_another_shape_are_named(tmp_path: Path) -> None:
    folder = save_language(tmp_path, TEXTS, steps=1)
    spoil_config(folder, intermediate_size=72)
    with pytest.raises(
        BadInput, match=r"layers\.0\.mlp\.down_proj\.weight is 32 x 64, not 32 x 72 \(6 in all"
    ):
        causal_lm.load(folder)
    spoil_config(folder, intermediate_size=64, num_attention_heads=0)
    with pytest.raises(BadInput, match="transformers cannot load"):
        causal_lm.load(folder)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    spoil_config(folder, num_attention_heads=4)
    for kept in (0, 1000, len(whole) - 100):
        file.write_bytes(whole[:kept])
        with pytest.raises(BadInput, match=f"transformers cannot load {folder}"):
            causal_lm.load(folder)


def beside(folder: Path, name: str, **said: object) -> None:
    (folder / name).write_text(json.dumps(said))


def test_a_tokenizer_of_another_model_is_known_by_its_ids(tmp_path: Path) -> None:
    folder = save_language(tmp_path, TEXTS, steps=1)  # [START] is 1 there, [END] 2
    spoil_config(folder, eos_token_id=7, bos_token_id=1)
    with pytest.raises(BadInput, match=r"'\[END\]' is 2 in the one, and 7 by eos_token_id of config\.json"):
        causal_lm.load(folder)
    spoil_config(folder, eos_token_id=[7, 9])
    with pytest.raises(BadInput, match=r"is 2 in the one, and 7 or 9 by eos_token_id"):
        causal_lm.load(folder)
    spoil_config(folder, eos_token_id=[7, 2])
    beside(folder, "tokenizer_config.json", eos_token={"content": "[END]"}, bos_token="[START]")
    causal_lm.load(folder)
    spoil_config(folder, bos_token_id=5)
    with pytest.raises(BadInput, match=r"'\[START\]' is 1 in the one, and 5 by bos_token_id"):
        causal_lm.load(folder)
    beside(folder, "generation_config.json", bos_token_id=1)
    causal_lm.load(folder)
    listed = {"2": {"content": "[END]"}, "8": {"content": "[START]"}, "300": {"content": "<tool>"}}
    beside(folder, "tokenizer_config.json", added_tokens_decoder=listed)
    with pytest.raises(BadInput, match=r"'\[START\]' is 1 in the one, and 8 by tokenizer_config\.json"):
        causal_lm.load(folder)
