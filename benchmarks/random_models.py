"""CLIP ViT-B/32 and Qwen3-0.6B at their real sizes with random weights, as transformers saves models.

    python -m benchmarks.random_models DIR
    python -m benchmarks.decoding --recipe clip_prefix --set vision=DIR/clip --set language=DIR/qwen3

For figures of size and speed where no weights can be had: what such a model writes means nothing. The
tokenizer is a small one of our own texts; the table of words has the real one's 151,936 rows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, Qwen3Config, Qwen3ForCausalLM

from benchmarks.decoding import TEXTS
from training import tokens

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.manual_seed(0)
    CLIPVisionModel(CLIPVisionConfig()).save_pretrained(folder / "clip")  # its defaults are ViT-B/32's
    Qwen3ForCausalLM(Qwen3Config(**QWEN3)).bfloat16().save_pretrained(folder / "qwen3")
    tokens.byte_pieces(TEXTS, 2000).save(str(folder / "qwen3" / "tokenizer.json"))
    (folder / "qwen3" / "tokenizer_config.json").write_text(json.dumps({"eos_token": tokens.END}))


if __name__ == "__main__":
    main()
