"""A whole Redpencil of its own, on free ports and a fresh home, for tests and measurements."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from redpencil import ports
from redpencil.settings import Settings
from services.local import MARK, stack_mark

READY_TIMEOUT_S = 240.0


@dataclass
class Stack:
    """A running `redpencil up` and how to reach it."""

    settings: Settings
    environment: dict[str, str]
    process: subprocess.Popen[str]
    ready_s: float = 0.0

    def up(self) -> None:
        """Start (again) and wait until it says that it is ready; raises with its words otherwise."""
        self.process, self.ready_s = _start(self.environment)

    def stop(self) -> int:
        """Ctrl-C, and the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(180)

    def members(self) -> list[psutil.Process]:
        """Every living process of this stack, but not the supervisor."""
        mark = stack_mark(self.settings.home)
        return [p for p in psutil.process_iter() if _mark(p) == mark]

    def named(self, part: str) -> list[psutil.Process]:
        """Its processes whose command line contains the words."""
        return [p for p in self.members() if part in command(p)]

    def power_cut(self) -> None:
        """SIGKILL to all of it in one go."""
        for process in [psutil.Process(self.process.pid), *self.members()]:
            kill(process)
        self.process.wait()


@contextmanager
def running(home: Path, **settings: object) -> Iterator[Stack]:
    """A stack that is ready; stopped at the end, whatever happened."""
    stack = make(home, **settings)
    try:
        stack.up()
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.stop()


def make(home: Path, **settings: object) -> Stack:
    serving, services, mlflow = ports.free(3)
    doors = {"serving_port": serving, "services_port": services, "mlflow_port": mlflow}
    chosen = Settings.model_validate({"home": home, **doors, **settings})
    variables = {f"REDPENCIL_{k.upper()}": str(v) for k, v in chosen.model_dump().items()}
    placeholder = subprocess.Popen([sys.executable, "-c", ""], text=True)
    placeholder.wait()
    return Stack(chosen, os.environ | variables, placeholder)


def kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return  # already dead, which was the aim


def _start(environment: dict[str, str]) -> tuple[subprocess.Popen[str], float]:
    begun = time.monotonic()
    command = [sys.executable, "-m", "services.cli", "up"]
    process = subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("ready"):
            return process, time.monotonic() - begun
        if time.monotonic() - begun > READY_TIMEOUT_S:
            break
    process.kill()
    raise RuntimeError("the stack did not become ready:\n" + "".join(said))


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def command(process: psutil.Process) -> str:
    """Its command line; empty when it has ended since it was listed, or is not ours to ask."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
