"""Pictures of where a decoder looked for each token that it wrote."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def drawn(image: np.ndarray, pieces: Sequence[str], looks: np.ndarray) -> bytes:
    """An image [H,W,3] of 0..1 once per token, lit where the token's writing looked, as a PNG."""
    columns = max(1, min(5, round(5 * image.shape[0] / image.shape[1])))
    rows = max(1, math.ceil(len(pieces) / columns))
    each = (10 / columns, 10 / columns * image.shape[0] / image.shape[1] + 0.4)
    figure = Figure(figsize=(columns * each[0], rows * each[1]), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels:
        axes.axis("off")
    for axes, piece, look in zip(panels, pieces, looks, strict=False):
        axes.set_title(piece or "·", fontsize=9, parse_math=False)
        axes.imshow(image)
        over = (0, image.shape[1], image.shape[0], 0)
        axes.imshow(look, extent=over, alpha=0.5, cmap="inferno", interpolation="bilinear")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=80)
    return out.getvalue()
