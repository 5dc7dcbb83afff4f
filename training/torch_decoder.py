"""A model in training, decoded by the same code that decodes its bundle."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from redpencil.generate import MEMORY, NEW, PAST, Tensors
from training.image_to_text import ImageToText

__all__ = ["MEMORY", "NEW", "PAST", "TorchDecoder"]


class TorchDecoder:
    """What `redpencil.generate` asks of a decoder, answered by torch; numpy in, numpy out."""

    def __init__(self, model: ImageToText) -> None:
        self.model, self.past = model, model.past_shapes
        self.device = next(model.parameters()).device

    def run(
        self, tokens: NDArray[np.int64], lengths: NDArray[np.int64], memory: Tensors, past: Tensors
    ) -> tuple[NDArray[np.float32], Tensors]:
        """Logits [B,V] behind the last of the tokens [B,S], and the keys and values of these."""

        def there(array: NDArray[np.generic]) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

        kept = {n: there(v) for n, v in past.items()}
        seen = {n.removeprefix(MEMORY): there(v) for n, v in memory.items()}
        with torch.inference_mode():
            logits, new = self.model.decode(there(tokens), there(lengths), seen, kept)
        return logits[:, -1].float().cpu().numpy(), {n: v.float().cpu().numpy() for n, v in new.items()}
