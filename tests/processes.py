"""Processes that may end while a test looks at them: gone, or a zombie that nobody has waited for."""

from __future__ import annotations

import psutil


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def listening(process: psutil.Process) -> list[str]:
    """The addresses it listens on; none when it has ended since it was listed."""
    try:
        places = process.net_connections("tcp")
    except psutil.NoSuchProcess:
        return []
    return [place.laddr.ip for place in places if place.status == psutil.CONN_LISTEN]
