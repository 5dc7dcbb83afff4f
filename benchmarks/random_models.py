"""CLIP ViT-B/32, Qwen3-0.6B and Qwen2.5-VL-3B with random weights, as transformers saves models.

    python -m benchmarks.random_models DIR [--layers 36]
    python -m benchmarks.decoding --recipe clip_prefix --set vision=DIR/clip --set language=DIR/qwen3

For figures of size and speed where no weights can be had: what such a model writes means nothing. The
tokenizer is a small one of our own texts; the table of words has the real one's 151,936 rows. With `--layers`
Qwen2.5-VL is written alone, so many of the 36 layers of its language model and as large a part of its tower.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from benchmarks.decoding import TEXTS
from training import qwen_hub, tokens

QWEN3 = {
    "vocab_size": 151_936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": None,
}
QWEN_VL_TEXT = {
    "vocab_size": 151_936,
    "hidden_size": 2048,
    "intermediate_size": 11_008,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
}
QWEN_VL_VISION = {"hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048}
QWEN_VL_LAYERS = 36
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
SPECIAL += ["<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int)
    asked = parser.parse_args()
    folder: Path = asked.folder
    torch.manual_seed(0)
    if asked.layers:
        return qwen_vl(folder / "qwen2_5_vl", asked.layers)
    CLIPVisionModel(CLIPVisionConfig()).save_pretrained(folder / "clip")  # its defaults are ViT-B/32's
    Qwen3ForCausalLM(Qwen3Config(**QWEN3)).bfloat16().save_pretrained(folder / "qwen3")
    tokens.byte_pieces(TEXTS, 2000).save(str(folder / "qwen3" / "tokenizer.json"))
    (folder / "qwen3" / "tokenizer_config.json").write_text(json.dumps({"eos_token": tokens.END}))


def qwen_vl(folder: Path, layers: int) -> None:
    """Qwen2.5-VL-3B with so many layers, and its processor."""
    tokenizer = qwen_tokenizer(TEXTS, 2000)
    depth = max(1, 32 * layers // QWEN_VL_LAYERS)
    vision = QWEN_VL_VISION | {"depth": depth, "fullatt_block_indexes": [*range(7, depth, 8)]}
    config = qwen_config(tokenizer, vision, QWEN_VL_TEXT | {"num_hidden_layers": layers})
    torch.set_default_dtype(torch.bfloat16)
    model = Qwen2_5_VLForConditionalGeneration(config)
    with torch.no_grad():  # what no token stands for is never the likeliest
        model.get_input_embeddings().weight[tokenizer.get_vocab_size() :] = 0
    model.save_pretrained(folder)
    qwen_hub.processor(tokenizer).save_pretrained(folder)


def qwen_config(
    tokenizer: Tokenizer, vision: dict[str, Any], text: dict[str, Any], tied: bool = True
) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL of such sizes, by the special tokens of a tokenizer."""
    id_of = tokenizer.token_to_id
    ends = {"bos_token_id": id_of("<|endoftext|>"), "eos_token_id": id_of("<|im_end|>")}
    return Qwen2_5_VLConfig(
        vision_config=vision,
        text_config=text | ends,
        image_token_id=id_of("<|image_pad|>"),
        video_token_id=id_of("<|video_pad|>"),
        vision_start_token_id=id_of("<|vision_start|>"),
        vision_end_token_id=id_of("<|vision_end|>"),
        tie_word_embeddings=tied,
    )


def qwen_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A small byte-level one with Qwen's special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


if __name__ == "__main__":
    main()
