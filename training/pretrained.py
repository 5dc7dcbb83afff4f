"""Folders as transformers saves models: found, fetched from the hub, read; what is wrong with one is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from redpencil.errors import BadInput

TOKENS = "tokenizer_config.json"
FILES = ("*.json", "*.safetensors", "merges.txt", "vocab.txt")
OLDER = "pytorch_model*.bin"  # where a model has no others


def folder_of(folder_or_name: str | Path) -> Path:
    """The folder itself, or that of a model of the Hugging Face hub, fetched.

    BadInput says how to get the folder where there is no network.
    """
    folder = Path(folder_or_name).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub.errors import HFValidationError

    try:
        return _fetched(str(folder_or_name))
    except HFValidationError as error:
        raise BadInput(f"there is no folder {folder}, and no model can have that name") from error
    except OSError as error:
        said = str(error).split("\n")[0]
        raise BadInput(
            f"there is no folder {folder}, and the Hugging Face hub gave no model of that name ({said}). "
            f"Where there is a network, run `hf download {folder_or_name} --local-dir FOLDER`, bring the "
            "folder here and name it instead"
        ) from error


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(name, allow_patterns=list(FILES)))
    if any(folder.glob("*.safetensors")):
        return folder
    return Path(snapshot_download(name, allow_patterns=[*FILES, OLDER]))


def config_of(folder: Path) -> dict[str, Any]:
    """What config.json says; BadInput names the file where it is no model's."""
    file = folder / "config.json"
    if not file.is_file():
        raise BadInput(f"{file} is missing; a folder as transformers saves models is wanted")
    config = said_in(file)
    if "model_type" not in config:
        raise BadInput(f"{file} names no model_type")
    return config


def said_in(file: Path) -> dict[str, Any]:
    """What a file of JSON says, nothing where there is none; BadInput names it where it says no object."""
    if not file.is_file():
        return {}
    try:
        said = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{file} is not JSON: {error}; take it anew from where the model comes from"
        ) from error
    if not isinstance(said, dict):
        raise BadInput(f"{file} holds no JSON object; take it anew from where the model comes from")
    return said


def weights(kind: Any, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """`kind.from_pretrained` of a folder; BadInput where a weight is missing or misshapen."""
    chosen = {"local_files_only": True, "dtype": dtype, "ignore_mismatched_sizes": True}
    try:
        model, told = kind.from_pretrained(folder, output_loading_info=True, **chosen)
    except Exception as error:  # what transformers and safetensors raise for a bad folder shares no base
        said = " ".join(str(error).split())
        raise BadInput(f"transformers cannot load {folder}: {said}") from error
    if lacking := sorted(told["missing_keys"]):
        raise BadInput(f"the weights in {folder} lack {lacking[0]} ({len(lacking)} in all)")
    if misshapen := sorted(told["mismatched_keys"]):
        name, *shapes = misshapen[0]
        stored, wanted = (" x ".join(map(str, shape)) for shape in shapes)
        raise BadInput(
            f"the weights in {folder} are not those of its config.json: {name} is {stored}, not {wanted} "
            f"({len(misshapen)} in all do not fit); take both from the same model"
        )
    return model


def check_ids(folder: Path, tokenizer: Tokenizer) -> None:
    """BadInput where a token has another id in the tokenizer than in the files beside it."""
    told, *configs = (said_in(folder / file) for file in (TOKENS, "config.json", "generation_config.json"))
    listed = told.get("added_tokens_decoder")
    for number, token in listed.items() if isinstance(listed, dict) else ():
        _check_id(folder, tokenizer, token, [int(number)] if number.isdigit() else [], TOKENS)
    for name in ("eos_token", "bos_token"):
        ids = [n for config in configs for n in _ids(config.get(f"{name}_id"))]
        _check_id(folder, tokenizer, told.get(name) or configs[0].get(name), ids, f"{name}_id of config.json")


def _check_id(folder: Path, tokenizer: Tokenizer, token: Any, ids: list[int], said_by: str) -> None:
    text = _text(token)
    here = tokenizer.token_to_id(text) if text else None
    if here is not None and ids and here not in ids:
        there = " or ".join(map(str, dict.fromkeys(ids)))
        raise BadInput(
            f"the tokenizer in {folder} does not belong to its language model: {text!r} is {here} in the "
            f"one, and {there} by {said_by}; take all files from the same model"
        )


def end_of(folder: Path, tokenizer: Tokenizer) -> int:
    """The id that ends a text: the tokenizer's own, else the one that config.json names."""
    token = _text(said_in(folder / TOKENS).get("eos_token"))
    own = tokenizer.token_to_id(token) if token else None
    if token and own is None:
        raise BadInput(f"the tokenizer in {folder} lacks {token!r}, with which {TOKENS} ends every text")
    ids = _ids(config_of(folder).get("eos_token_id")) if own is None else [own]
    if not ids:
        raise BadInput(f"{folder} names no end of text: neither eos_token in {TOKENS} nor eos_token_id")
    return ids[0]


def _ids(said: Any) -> list[int]:
    """One id, or a list of them."""
    return [n for n in (said if isinstance(said, list) else [said]) if isinstance(n, int)]


def _text(token: Any) -> str | None:
    """What a token says; transformers writes it alone, or with more about it."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
