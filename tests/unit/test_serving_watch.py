"""Serving ends where nothing answers at its own port; what stands before it has no say."""

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from redpencil.errors import RedpencilError
from redpencil.settings import Settings
from serving import __main__ as serving


def test_a_proxy_that_is_down_ends_no_healthy_serving(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert daemon.stdin is not None
    end = daemon.stdin.close

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            end()  # only a watch that was answered sees the daemon die

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(serving, "DAEMONS", ("cat",))
    monkeypatch.setattr(serving, "WATCH_S", 0.01)
    monkeypatch.setattr(serving, "DEAF_S", 20.0)
    with daemon, HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = Settings(serving_port=server.server_port, serving_url="http://127.0.0.1:9")
        with pytest.raises(RedpencilError, match=r"Ray's cat has died"):
            serving._watch(there)
        server.shutdown()
