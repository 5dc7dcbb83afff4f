"""Ports of this machine: free ones for what is about to listen, and no proxy on the way to them."""

from __future__ import annotations

import errno
import os
import random
import socket

from redpencil.errors import Conflict

BELOW_EPHEMERAL = (15_000, 30_000)
"""Linux hands out ports from 32,768 on by itself and Ray Serve from 30,000 on, also before ours is used."""


HERE = ("127.0.0.1", "localhost")


def direct() -> None:
    """From now on this process, and all that it starts, reaches this machine without any proxy."""
    spellings = ("no_proxy", "NO_PROXY")  # programs differ in which one they ask first
    known = [host for name in spellings for host in os.environ.get(name, "").split(",") if host]
    os.environ |= dict.fromkeys(spellings, ",".join(dict.fromkeys([*known, *HERE])))


def free(count: int) -> list[int]:
    """So many different ports of this machine that nobody listens on at this moment."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(*BELOW_EPHEMERAL)
        if port not in found and _is_free(port):
            found.append(port)
    return found


def require_free(host: str, port: int, setting: str) -> None:
    """Conflict, naming the setting that chooses another one, where a port cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            taken = f"port {port} is taken; end what listens there, or set another {setting}"
            other = f"nothing can listen on {host}, port {port}: {error.strerror}"
            raise Conflict(taken if error.errno == errno.EADDRINUSE else other) from error


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
