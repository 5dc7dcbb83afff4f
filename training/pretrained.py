"""Folders as transformers saves models: found, fetched from the hub, read; what is wrong with one is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from redpencil.errors import BadInput

FILES = ("*.json", "*.safetensors", "merges.txt", "vocab.txt")


def folder_of(folder_or_name: str | Path) -> Path:
    """The folder itself, or that of a model of the Hugging Face hub, fetched.

    BadInput says how to get the folder where there is no network.
    """
    folder = Path(folder_or_name).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(str(folder_or_name), allow_patterns=list(FILES)))
    except HFValidationError as error:
        raise BadInput(f"there is no folder {folder}, and no model can have that name") from error
    except OSError as error:
        said = str(error).split("\n")[0]
        raise BadInput(
            f"there is no folder {folder}, and the Hugging Face hub gave no model of that name ({said}). "
            f"Where there is a network, run `hf download {folder_or_name} --local-dir FOLDER`, bring the "
            "folder here and name it instead"
        ) from error


def config_of(folder: Path) -> dict[str, Any]:
    """What config.json says; BadInput names the file where it is no model's."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{file} is missing; a folder as transformers saves models is wanted") from error
    except ValueError as error:
        raise BadInput(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise BadInput(f"{file} names no model_type")
    return config


def weights(kind: Any, folder: Path) -> Any:
    """`kind.from_pretrained` of a folder in FP32; BadInput where a weight is missing or misshapen."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        model, told = kind.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, StrictDataclassError) as error:
        raise BadInput(f"transformers cannot load {folder}: {error}") from error
    lacking = sorted(told["missing_keys"])
    if lacking:
        raise BadInput(f"the weights in {folder} lack {lacking[0]} ({len(lacking)} in all)")
    return model


def end_of(folder: Path, tokenizer: Tokenizer) -> int:
    """The id that ends a text: the tokenizer's own, else the one that config.json names."""
    file = folder / "tokenizer_config.json"
    named = json.loads(file.read_text("utf-8")).get("eos_token") if file.is_file() else None
    token = named.get("content") if isinstance(named, dict) else named
    end = tokenizer.token_to_id(token) if token else config_of(folder).get("eos_token_id")
    end = end[0] if isinstance(end, list) else end
    if end is None:
        raise BadInput(f"{folder} names no end of text: neither eos_token in {file.name} nor eos_token_id")
    return int(end)
