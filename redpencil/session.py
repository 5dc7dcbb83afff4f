"""ONNX Runtime sessions as Redpencil runs them: any width, on the device that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from redpencil.bundle import Graph, read_graph
from redpencil.errors import Damaged, NotReady


def load_session(folder: Path, graph: Graph, device: str, threads: int) -> Any:
    """An ONNX Runtime session of a bundle's graph, its hash checked; never another device than asked."""
    if device == "cuda":
        onnxruntime.preload_dlls(directory="")
    data = read_graph(folder, graph)
    try:
        session = onnxruntime.InferenceSession(data, session_options(threads), providers=_providers(device))
    except Exception as e:  # ONNX Runtime's errors share no base of their own
        raise Damaged(f"ONNX Runtime cannot load {folder / graph.file}: {e}") from e
    if session.get_providers()[0] != _providers(device)[0]:
        raise NotReady(
            "ONNX Runtime has no CUDA here; set REDPENCIL_DEVICE=cpu, or repair its CUDA libraries"
        )
    return session


def session_options(threads: int) -> Any:
    """How a graph with free widths runs here, on so many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # lines have any width; a plan per width would only pile up
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Waiting threads must sleep: beside them other replicas and training want the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _providers(device: str) -> list[Any]:
    # With free widths, trying every cuDNN algorithm per shape would cost seconds per new width.
    cuda = ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"})
    return [cuda, "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
