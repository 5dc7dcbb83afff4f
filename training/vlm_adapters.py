"""Do the adapters in a folder belong to a model? Asked before peft has changed anything in it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from redpencil.errors import BadInput
from training import pretrained

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."

Shape = Sequence[int]


def check(folder: Path, layers: Mapping[str, Shape], names: Collection[str]) -> None:
    """BadInput where they are missing, damaged, or of another model than that of these names and layers."""
    for file in (folder / CONFIG, folder / WEIGHTS):
        if not os.path.isfile(file):
            raise BadInput(
                f"there is no {file}; the server must see the adapters under the path that is sent"
            )
    config = pretrained.said_in(folder / CONFIG)
    base, rank = str(config.get("base_model_name_or_path")), config.get("r")
    if Path(base).name not in names:
        raise BadInput(
            f"the adapters in {folder} belong to {base}, and {' or '.join(sorted(names))} runs here; give a "
            f"copy of that model its name with --served-model-name {Path(base).name}"
        )
    for key, shape in _stored(folder / WEIGHTS).items():
        if config.get("peft_type") != "LORA" or not fits(key, shape, layers, rank):
            raise BadInput(f"the adapters in {folder} do not fit {' or '.join(sorted(names))}: {key} {shape}")


def fits(key: str, shape: Shape, layers: Mapping[str, Shape], rank: object) -> bool:
    """Whether a tensor is one of the two thin matrices beside one of the layers [out, in]."""
    layer, _, part = key.removeprefix(PREFIX).rpartition(".lora_")
    out, into = layers.get(layer, (None, None))
    return layer in layers and list(shape) == {"A.weight": [rank, into], "B.weight": [out, rank]}.get(part)


def _stored(file: Path) -> dict[str, Shape]:
    try:
        with safe_open(file, "pt") as stored:
            return {key: stored.get_slice(key).get_shape() for key in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{file} cannot be read: {error}; bring it here anew") from error
