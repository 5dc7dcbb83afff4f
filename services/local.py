"""The one-machine supervisor behind `redpencil up`: starts every part, keeps it up, stops it all.

Parts are processes: MLflow, services and serving. A part that dies is started again. When the
supervisor itself is killed, the kernel tells its parts to end; what still remains (Ray's own
daemons) carries a mark in its environment, and the next start ends it first.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil

from redpencil import ports
from redpencil.errors import Conflict, NotReady, RedpencilError
from redpencil.settings import Settings, near
from services.part import Part
from services.runs import recipes

MARK = "REDPENCIL_STACK"
START_TIMEOUT_S = 600.0  # on a machine that is busy with other things; what dies is noticed at once
RESTART_PAUSE_S = 1.0


def up(settings: Settings, say: Callable[[str], None]) -> None:
    """Run the whole stack in the foreground until SIGINT or SIGTERM; leaves no process behind.

    Raises RedpencilError where it cannot start, saying which part, port or folder is in the way.
    """
    prepare(settings)
    with _only_one(settings.home), _stop_signals() as stopping:
        sweep(settings)
        ports.require_free(settings.host, settings.serving_port, "REDPENCIL_SERVING_PORT")
        ports.require_free(settings.host, settings.services_port, "REDPENCIL_SERVICES_PORT")
        if mlflow_is_ours(settings):
            ports.require_free(settings.mlflow_host, settings.mlflow_port, "REDPENCIL_MLFLOW_PORT")
        stack = parts(settings)
        try:
            _start(stack, settings, say, stopping)
            _watch(stack, say, stopping)
        finally:
            say("stopping ...")
            for part in stack:
                part.ask_to_stop()
            for part in stack:
                part.stop()
            sweep(settings)
            say("stopped; everything is kept in " + str(settings.home))


def prepare(settings: Settings) -> None:
    """Make the home folder, or say why it cannot be used; the families that the schedule trains are there."""
    there = recipes()
    for name in ("recipe", "caption_recipe"):
        if there and getattr(settings, name) not in there:
            raise RedpencilError(
                f"REDPENCIL_{name.upper()}: there is no family {getattr(settings, name)!r}; "
                f"there are {', '.join(there)}"
            )
    try:
        for folder in ("logs", "run", "mlflow"):
            (settings.home / folder).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise RedpencilError(
            f"cannot use {settings.home}: {e}; set REDPENCIL_HOME to a writable folder"
        ) from e


def parts(settings: Settings) -> list[Part]:
    """MLflow, unless it is elsewhere, services and serving; each is asked where it listens."""
    env = _environment(settings)
    said = settings.home / "logs"
    here, python = f"http://{near(settings.host)}", sys.executable
    mlflow = Part("mlflow", _mlflow_argv(settings), f"{settings.mlflow}/health", said / "mlflow.log", env)
    return [
        *([mlflow] if mlflow_is_ours(settings) else []),
        Part(
            "services",
            [python, "-m", "services"],
            f"{here}:{settings.services_port}/health",
            said / "services.log",
            env,
        ),
        Part(
            "serving",
            [python, "-m", "serving"],
            f"{here}:{settings.serving_port}/health",
            said / "serving.log",
            env,
        ),
    ]


def mlflow_is_ours(settings: Settings) -> bool:
    """Whether MLflow is a part of the stack: its address is none, or the one where that part listens."""
    names = (*ports.HERE, near(settings.mlflow_host))
    return urlsplit(settings.mlflow).netloc in {f"{name}:{settings.mlflow_port}" for name in names}


def serving(settings: Settings) -> str:
    """Where the services ask serving: beside them in a stack, past any proxy before it; else by its URL."""
    beside = MARK in os.environ
    return f"http://{near(settings.host)}:{settings.serving_port}" if beside else settings.serving


def _mlflow_argv(settings: Settings) -> list[str]:
    file = quote(str(settings.home / "mlflow" / "mlflow.db"))
    database = settings.mlflow_database_url or f"sqlite:///{file}"
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", settings.mlflow_host, "--port", str(settings.mlflow_port), "--workers", "1"),
        *("--backend-store-uri", database),
        *("--artifacts-destination", str(settings.home / "mlflow" / "artifacts")),
    ]


def _environment(settings: Settings) -> dict[str, str]:
    """The settings as variables, so that every part (and its children) sees the same ones."""
    chosen = {f"REDPENCIL_{k.upper()}": str(v) for k, v in settings.model_dump().items()}
    return chosen | {
        MARK: stack_mark(settings.home),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "GOMP_SPINCOUNT": "1000",  # waiting threads soon sleep, so busy machines stay usable
        "PYTHONUNBUFFERED": "1",
    }


def stack_mark(home: Path) -> str:
    """What every process of the stack that keeps its data in `home` carries in its environment."""
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:24]


def sweep(settings: Settings) -> None:
    """End every process that an earlier stack on the same home left behind."""
    mark, mine = stack_mark(settings.home), {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    left = [p for p in psutil.process_iter() if p.pid not in mine and _carries(p, mark)]
    for process in left:
        _signal(process, signal.SIGTERM)
    _, stubborn = psutil.wait_procs(left, timeout=5.0)
    for process in stubborn:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=5.0)


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False  # gone, or another user's: not ours


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return  # it ended by itself meanwhile, which is what was wanted


def _start(stack: list[Part], settings: Settings, say: Callable[[str], None], stopping: list[int]) -> None:
    *mlflow, services, serving = stack
    say(f"starting on {settings.home} ...")
    for part in (*mlflow, serving):
        part.start()
    for part in mlflow:
        _wait(part, stopping)
    first = [sys.executable, "-m", "training.base"]
    done = subprocess.run(first, env=os.environ | _environment(settings), capture_output=True, text=True)
    if done.returncode and not stopping:
        raise RedpencilError(f"the base model could not be imported:\n{done.stderr[-2000:]}")
    services.start()
    _wait(services, stopping)
    _wait(serving, stopping)
    if not stopping:
        say(_welcome(settings))


def _welcome(settings: Settings) -> str:
    return (
        "ready\n"
        f"  read     curl -F file=@page.jpg {settings.serving}/v1/ocr      (API: {settings.serving}/docs)\n"
        f"  correct  {settings.services}/         (API: {settings.services}/docs)\n"
        f"  promote  {settings.mlflow}/#/models\n"
        "Ctrl-C stops everything."
    )


def _wait(part: Part, stopping: list[int]) -> None:
    """Until the part is healthy, or somebody wants to stop."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not part.healthy():
        if stopping:
            return
        if part.exited():
            raise RedpencilError(
                f"{part.name} ended while starting; its log {part.log} says:\n{part.last_words()}"
            )
        if time.monotonic() > deadline:
            raise NotReady(f"{part.name} is not healthy after {START_TIMEOUT_S:.0f} s; its log is {part.log}")
        time.sleep(0.2)


def _watch(stack: list[Part], say: Callable[[str], None], stopping: list[int]) -> None:
    """Start again what dies, and keep logs short, until a stop signal comes."""
    while not stopping:
        for part in stack:
            if part.exited():
                say(f"{part.name} ended unexpectedly; starting it again (log: {part.log})")
                time.sleep(RESTART_PAUSE_S)
                part.start()
            part.shorten_log(say)
        time.sleep(0.2)


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that fills when SIGINT or SIGTERM arrives; the former handlers return afterwards."""
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(n, lambda number, _frame: caught.append(number)) for n in numbers]
    try:
        yield caught
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """One stack per home; the lock goes with the process, however it ends."""
    with (home / "run" / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise Conflict(
                f"redpencil is already up on {home}; stop it, or set another REDPENCIL_HOME"
            ) from e
        yield
