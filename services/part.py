"""One process of the stack on one machine: started, asked whether it is healthy, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from services import leash, logs

STOP_TIMEOUT_S = 20.0


@dataclass
class Part:
    """One process of the stack: how to start it, and where it says that it is healthy."""

    name: str
    argv: list[str]
    url: str
    log: Path
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | self.env,
                start_new_session=True,
                preexec_fn=leash.end_with_parent,
            )

    def healthy(self) -> bool:
        try:
            return httpx.get(self.url, timeout=2.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def exited(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def stop(self) -> None:
        """Wait for its end; SIGKILL to its whole process group where asking was not enough."""
        if self.process is None:
            return
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def last_words(self) -> str:
        said = logs.last_words(self.log, lines=15, longest=4000)
        return "\n".join(f"    {line}" for line in said.splitlines())

    def shorten_log(self, say: Callable[[str], None]) -> None:
        try:
            logs.shorten(self.log)
        except OSError as error:
            say(f"{self.log} was emptied, and what it said is lost: {error}")
