"""The graphs of a bundle as Redpencil runs them: any width, on the device that was asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from redpencil.bundle import Graph, Manifest, read_graph
from redpencil.errors import Damaged, NotFound, NotReady
from redpencil.pixels import Pixels, to_tensor
from redpencil.types import Precision

# With free widths, trying every cuDNN algorithm per shape would cost seconds per new width.
# FP32 is what the gate judged, and TF32, which is the default, keeps 10 of its 23 bits.
CUDA = ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"})
PROVIDERS: dict[str, list[Any]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": [CUDA, "CPUExecutionProvider"],
}


class OnnxReader:
    """What every reader of ONNX graphs is: a bundle in a folder, and how its graphs are run.

    The precision is the one asked for, else the bundle's own; on `cuda` FP32, since INT8 is made for CPUs.
    `threads` is what one reading may use, `cores` how many are for readings (0: all). `manifest` is given
    for one of two readers in a bundle.
    """

    def __init__(
        self,
        folder: Path,
        precision: Precision | None = None,
        device: str = "cpu",
        threads: int = 1,
        manifest: Manifest | None = None,
        cores: int = 0,
    ) -> None:
        self.manifest = manifest or Manifest.load(folder)
        self.folder, self.device, self.threads = folder, device, threads
        self.cores = cores or len(os.sched_getaffinity(0))
        self.precision = precision or (Precision.FP32 if device == "cuda" else self.manifest.precision)
        if self.precision not in self.manifest.graphs:
            raise NotFound(f"this bundle has no {self.precision} graph")
        self.open()

    def open(self) -> None:
        """Load what reading needs; called once, at the end of making a reader."""
        raise NotImplementedError

    def session(self, graph: Graph) -> Any:
        """One of the bundle's graphs, its hash checked, ready to run; never on another device than asked."""
        if self.device == "cuda":
            onnxruntime.preload_dlls(directory="")
        data, options = read_graph(self.folder, graph), session_options(self.threads)
        try:
            session = onnxruntime.InferenceSession(data, options, providers=PROVIDERS[self.device])
        except Exception as e:  # ONNX Runtime's errors share no base of their own
            raise Damaged(f"ONNX Runtime cannot load {self.folder / graph.file}: {e}") from e
        if self.device == "cuda" and session.get_providers()[0] != CUDA[0]:
            raise NotReady(
                "ONNX Runtime has no CUDA here; set REDPENCIL_DEVICE=cpu, or repair its CUDA libraries"
            )
        return session

    def tensor(self, image: Pixels) -> NDArray[np.float32]:
        """The image as this bundle's graphs want it, [C, H, W]."""
        return to_tensor(image, self.manifest.preprocessing)


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
