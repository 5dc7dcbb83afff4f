"""The server of adapted models (training.vlm_server) within a test's own process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from redpencil.ports import free
from training import vlm_api
from training.vlm_model import Vlm


@dataclass
class Running:
    """A server at `url`; it closes the connection on the next `hangs_up` questions."""

    model: Vlm
    url: str
    hangs_up: int = field(default=0)

    def forget(self) -> None:
        """As after a restart: the base is there, the adapters are not."""
        for name in list(self.model.adapters):
            self.model.unload(name)


@contextmanager
def running(base: Path, key: str = "") -> Iterator[Running]:
    (port,) = free(1)
    here = Running(Vlm(str(base)), f"http://{key + '@' if key else ''}127.0.0.1:{port}/v1")

    class Protocol(H11Protocol):
        def data_received(self, data: bytes) -> None:
            if here.hangs_up and data.startswith(b"POST"):
                here.hangs_up -= 1
                return self.transport.close()
            return super().data_received(data)

    app = vlm_api.build(here.model, key)
    server = uvicorn.Server(uvicorn.Config(app, port=port, http=Protocol, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield here
    server.should_exit = True
    thread.join()
