"""A torch module as an ONNX graph."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence

import onnx
import torch
from torch import Tensor, nn

OPSET = 20


def to_onnx(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
    fold: bool = False,
) -> bytes:
    """An ONNX file with all weights inside, under the names that they have in the module.

    The sizes in `axes` are free and get these names. `fold` computes beforehand what hangs on weights
    alone; where these are transposed, they lose their names.

    TorchScript's exporter, not the newer one: it takes 0.3 s instead of tens, needs no other package
    and keeps names. It warns of being old and of what tracing cannot see; exports are compared with torch.
    """
    graph, fast = io.BytesIO(), torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a fused kernel that ONNX does not know
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                example,
                graph,  # type: ignore[arg-type]  # the old exporter writes to memory too
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=axes,
                training=torch.onnx.TrainingMode.PRESERVE,  # or it merges layers and their weights
                do_constant_folding=fold,
                opset_version=OPSET,
                dynamo=False,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return _all_named(graph.getvalue())


def _all_named(graph: bytes) -> bytes:
    """Every parameter has weights of its own again, where the exporter shared those of an equal one."""
    model = onnx.load_model_from_string(graph)
    stored = {t.name: t for t in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "Identity" and n.input[0] in stored]:
        model.graph.initializer.add().CopyFrom(stored[node.input[0]])
        model.graph.initializer[-1].name = node.output[0]
        model.graph.node.remove(node)
    named: bytes = model.SerializeToString()
    return named
