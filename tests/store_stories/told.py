"""What the stories begin with: things that are stored, doubted, or done at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from store_parts import (
    image,
    prediction,
    run,
)

from redpencil import snapshot
from redpencil.errors import Conflict
from redpencil.store import Store
from redpencil.types import (
    Correction,
    Doubt,
    Image,
    Prediction,
    Split,
)

TRAIN_GROUP = next(f"doc{n}" for n in range(99) if snapshot.side_of(f"doc{n}") is Split.TRAIN)
HOLDOUT_GROUP = next(f"doc{n}" for n in range(99) if snapshot.side_of(f"doc{n}") is Split.HOLDOUT)


def stored(
    store: Store, name: str = "a", group: str | None = None, **given: object
) -> tuple[Image, Prediction]:
    """An image with one prediction, kept."""
    picture = image(name, group)
    answer = prediction(picture, **given)
    [kept] = store.predictions.add_many([(picture, answer)])
    return kept, answer


def doubted(store: Store, *said: Correction, left_out: bool = True, **given: object) -> list[Doubt]:
    """What a new run thinks of corrections, the first the most suspect."""
    asked = run(**given)
    store.runs.add(asked)
    scores = [0.9 - 0.1 * n for n in range(len(said))]
    made = [
        Doubt(asked.id, c.id, time.time(), score, left_out, "") for c, score in zip(said, scores, strict=True)
    ]
    store.doubts.add_many(made)
    return made


def at_once(work: Callable[[int], object], workers: int) -> list[object]:
    """Results of `work` from threads that start together; an exception is a result."""
    start = threading.Barrier(workers)

    def one(n: int) -> object:
        start.wait()
        try:
            return work(n)
        except Conflict as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, range(workers)))
