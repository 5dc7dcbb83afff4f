"""A throw-away PostgreSQL from the machine's own binaries, on a socket of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

BINARIES = max(
    Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=Path(), key=lambda p: int(p.parts[4])
).parent
"""The newest that Debian's packages installed; Path('.') where there is none."""

_OPTIONS = "-c listen_addresses='' -c unix_socket_directories='{folder}' -c max_connections=200"


@contextmanager
def cluster(durable: bool = False) -> Iterator[str]:
    """A running server; yields a URL of its database `postgres`, with `/postgres` to be replaced."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
        _do(
            "initdb",
            "--pgdata",
            folder / "data",
            "--auth=trust",
            "--username=redpencil",
            "--encoding=UTF8",
            "--no-sync",
        )
        options = _OPTIONS.format(folder=folder) + ("" if durable else " -c fsync=off")
        start = ["--pgdata", folder / "data", "--log", folder / "log", "--wait", "--options", options]
        _do("pg_ctl", "start", *start)
        try:
            yield f"postgresql://redpencil@/postgres?host={folder}"
        finally:
            _do("pg_ctl", "stop", "--pgdata", folder / "data", "--mode", "immediate", "--wait")
    finally:
        shutil.rmtree(folder)


def create(url: str, name: str, template: str = "template1") -> str:
    """A new database beside the one of the URL; returns its URL."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')  # type: ignore[call-overload]
    return url.replace("/postgres?", f"/{name}?")


def _do(program: str, *arguments: object) -> None:
    user = "postgres" if os.geteuid() == 0 else None
    command = [str(BINARIES / program), *map(str, arguments)]
    done = subprocess.run(
        command, user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{program} failed: {done.stderr}")
