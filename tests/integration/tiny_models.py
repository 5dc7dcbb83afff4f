"""CLIP, language models and their tokenizer as transformers saves them, but of a few thousand weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, CLIPVisionConfig, CLIPVisionModel

from training import tokens

WORDS = 300
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": WORDS,
    "bos_token_id": None,
    "pad_token_id": None,
    "eos_token_id": None,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 16, "tie_word_embeddings": True},
    "qwen2": {"tie_word_embeddings": False},
    "llama": {},
    "mistral": {"sliding_window": None},
}


def language_model(kind: str) -> Any:
    """A random model of a family, with weights so large that its answers differ."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL, **FAMILIES[kind]))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, 1.0 if weight.ndim == 1 else 0.0, 0.2)
    return model.eval()


def save_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    return folder


def save_language(folder: Path, texts: Sequence[str], steps: int) -> Path:
    """A Qwen3 that has learned to write such texts, with its tokenizer."""
    tokenizer, model = tokens.byte_pieces(texts, WORDS - 10), language_model("qwen3").train()
    end = tokenizer.token_to_id(tokens.END)
    spelled = [torch.tensor([end, *tokenizer.encode(text).ids, end]) for text in texts]
    whole = torch.nn.utils.rnn.pad_sequence(spelled, batch_first=True, padding_value=-100)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        model(input_ids=whole.clamp(min=0), labels=whole).loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": tokens.END}))
    return folder
