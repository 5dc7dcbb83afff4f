"""`python -m serving`: a local Ray with one Serve application, until SIGTERM or SIGINT."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import psutil

from redpencil import ports
from redpencil.errors import Conflict, NotReady, RedpencilError
from redpencil.settings import Settings, near
from serving import guard, ray_env

log = logging.getLogger("serving")

OBJECT_STORE_BYTES = 100 * 2**20  # Ray's least is 75 MiB; requests do not go through it
STOP_TIMEOUT_S = 15.0
DEAF_S = 60.0
WATCH_S = 2.0
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy stands between
DAEMONS = ("raylet", "gcs_server")


class Stopped(Exception):
    """Somebody asked for the end."""


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = Settings()
    try:
        with _alone(settings) as mark:
            _serve(settings, mark)
    except RedpencilError as exc:
        print(f"serving: {exc}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _alone(settings: Settings) -> Iterator[str]:
    """The only serving of this home and port, with nothing left of an earlier one."""
    run = settings.home / "run"
    run.mkdir(parents=True, exist_ok=True)
    with (run / f"serving-{settings.serving_port}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise Conflict(
                f"serving is already up on port {settings.serving_port}; set another REDPENCIL_SERVING_PORT"
            ) from exc
        mark = hashlib.sha256(f"{settings.home.resolve()}:{settings.serving_port}".encode()).hexdigest()[:24]
        guard.sweep(mark)
        ports.require_free(settings.host, settings.serving_port, "REDPENCIL_SERVING_PORT")
        yield mark


def _serve(settings: Settings, mark: str) -> None:
    os.environ.update({guard.MARK: mark, **ray_env.environment(settings)})
    watcher = guard.start(mark)
    try:
        _until_stopped(settings)
    except Stopped:
        log.info("stopped")
    finally:
        assert watcher.stdin is not None
        watcher.stdin.close()
        watcher.wait(STOP_TIMEOUT_S)


def _until_stopped(settings: Settings) -> None:
    import ray
    from ray import serve

    from serving import app

    try:
        _listen_to(_stop)
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            num_cpus=max(settings.replicas, os.cpu_count() or 1),
            num_gpus=None if settings.device == "cuda" else 0,
            log_to_driver=True,
        )
        _listen_to(_stop)  # Ray puts its own handler for SIGTERM in the way
        serve.start(http_options={"host": settings.host, "port": settings.serving_port})
        require_gpus(settings, ray.cluster_resources().get("GPU", 0.0))
        _deploy(app.build(settings.model_dump(mode="json")), settings.model)
        log.info("serving %s at %s", settings.model, settings.serving)
        _watch(settings)
    finally:
        _listen_to(signal.SIG_IGN)
        _shut_down(settings.model)


def require_gpus(settings: Settings, here: float) -> None:
    """NotReady where replicas would wait for GPUs that there are not; Ray itself would say nothing."""
    if settings.device == "cuda" and here < settings.replicas:
        raise NotReady(
            f"REDPENCIL_DEVICE=cuda gives each of {settings.replicas} replicas a GPU, and Ray finds "
            f"{here:.0f} here: set REDPENCIL_REPLICAS to that, or REDPENCIL_DEVICE=cpu, or repair the driver"
        )


def _deploy(application: Any, name: str) -> None:
    """Return when its replicas are up; raises with a replica's own words where they fail."""
    from ray import serve

    try:
        serve.run(application, name=name, route_prefix="/")
    except RuntimeError as exc:
        status = serve.status().applications.get(name)
        words = [d.message for d in status.deployments.values()] if status else []
        raise RedpencilError("\n".join([str(exc), *words])) from exc


def _watch(settings: Settings) -> None:
    """Until a signal. Ends in an error where Ray has died or nothing answers, to be started anew."""
    address = f"http://{near(settings.host)}:{settings.serving_port}/v2/health/live"
    daemons = [p for p in psutil.Process().children() if p.name() in DAEMONS]
    heard = time.monotonic()
    while time.monotonic() - heard < DEAF_S:
        time.sleep(WATCH_S)
        if dead := [p for p in daemons if p.status() == psutil.STATUS_ZOMBIE]:
            raise RedpencilError(f"Ray's {dead[0].name()} has died; ending, to be started anew")
        try:
            DIRECTLY.open(address, timeout=10).close()
            heard = time.monotonic()
        except (urllib.error.URLError, OSError) as exc:
            log.warning("serving does not answer: %s", exc)
    raise RedpencilError(f"serving has not answered for {DEAF_S:.0f} s; ending, to be started anew")


def _shut_down(application: str) -> None:
    """Drain, then end Serve and Ray; what hangs is left to the guard."""
    import ray
    from ray import serve

    hang = threading.Timer(STOP_TIMEOUT_S, os._exit, (1,))
    hang.daemon = True
    hang.start()
    if ray.is_initialized():
        serve.delete(application)
        serve.shutdown()
        ray.shutdown()
    hang.cancel()


def _listen_to(handler: signal.Handlers | object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)  # type: ignore[arg-type]


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
