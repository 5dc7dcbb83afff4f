"""Which version answers a request; pure, and the same for every replica at the same state."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from redpencil.errors import NotReady
from redpencil.types import ServingState, Variant


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who answers, and whether the challenger reads along unseen."""

    version: str
    variant: Variant
    mirror: bool


def assign(key: str, state: ServingState) -> Assignment:
    """Assign a key (a client's, else an image's hash) for as long as the experiment lasts.

    The share of keys answered by the challenger is `weight`, and of the others `mirror` are read by
    both; the two draws are independent. Raising a share only ever adds keys to it. Another
    experiment draws anew.
    """
    if state.champion is None:
        raise NotReady(f"no version of {state.model} is being served yet")
    if state.challenger is None:
        return Assignment(state.champion, Variant.CHAMPION, mirror=False)
    salt = state.experiment or state.model
    if _uniform("weight", salt, key) < state.weight:
        return Assignment(state.challenger, Variant.CHALLENGER, mirror=False)
    mirrored = _uniform("mirror", salt, key) < state.mirror
    return Assignment(state.champion, Variant.CHAMPION, mirrored)


def _uniform(purpose: str, salt: str, key: str) -> float:
    """A number in [0, 1) that looks random and is always the same for the same words."""
    words = "\0".join((purpose, salt, key)).encode("utf-8", "surrogatepass")
    return (int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "big") >> 11) * 2.0**-53
