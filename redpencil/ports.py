"""Ports for what is about to listen."""

from __future__ import annotations

import random
import socket

BELOW_EPHEMERAL = (15_000, 32_000)
"""Linux hands out ports from 32,768 on by itself, Ray many of them, also before ours is listened on."""


def free(count: int) -> list[int]:
    """So many different ports of this machine that nobody listens on at this moment."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(*BELOW_EPHEMERAL)
        if port not in found and _is_free(port):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
