"""What the processor at hand allows: a GPU, bf16 where it computes in it, several workers on one model."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.hyper import Hyper
from training.learner import Learner


def own_device() -> torch.device:
    """What a process that is alone computes on: the first GPU, by its number, or CPU."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def spread(model: Learner, device: torch.device, world: int) -> nn.Module:
    """The model as it is called in training; among several workers it exchanges gradients."""
    if world == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def autocast(device: torch.device, hyper: Hyper) -> AbstractContextManager[Any]:
    """bf16 where the recipe wants it and the processor computes in it, else fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision(device, hyper) == "bf16")


def precision(device: torch.device, hyper: Hyper) -> str:
    """What is computed in."""
    native = torch.cuda.is_bf16_supported(False) if device.type == "cuda" else _cpu_has_bf16()
    return hyper.precision if native else "fp32"


def _cpu_has_bf16() -> bool:
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def memory(device: torch.device) -> dict[str, str]:
    """What torch has allocated and reserved on a GPU, and of each the most, in MiB; empty elsewhere."""
    if device.type != "cuda":
        return {}
    used = {
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "peak": torch.cuda.max_memory_allocated(device),
        "peak_reserved": torch.cuda.max_memory_reserved(device),
    }
    return {f"memory_{name}_mib": str(round(value / 2**20)) for name, value in used.items()}
