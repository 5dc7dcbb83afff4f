"""A real browser for tests: Debian's chromium, driven over the WebDriver protocol."""

from __future__ import annotations

import base64
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from redpencil import ports

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
ENTER = "\ue007"
TAB = "\ue004"


class Gone(RuntimeError):
    """What was found is no longer on the page."""


class Browser:
    """One window. `find` waits until an element is there; `errors` is what the page complained about."""

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        self.size = f"{width},{height}"

    def __enter__(self) -> Browser:
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (port,) = ports.free(1)
        self.driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        self._wait_up()
        options = {"args": [*FLAGS, f"--window-size={self.size}", f"--user-data-dir={self.profile.name}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{made['sessionId']}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._send("DELETE", self.session)
        self.driver.terminate()
        self.driver.wait(60)
        self.profile.cleanup()

    def open(self, url: str) -> None:
        self.post("/url", url=url)

    def find(self, css: str, timeout_s: float = 60) -> str:
        """The id of the first match, as soon as there is one."""
        found = self.until(lambda: self.post("/elements", using="css selector", value=css), timeout_s, css)
        return str(found[0][ELEMENT])

    def text(self, css: str) -> str:
        return str(self._on(css, lambda there: self._send("GET", f"{self.session}{there}/text")))

    def click(self, css: str) -> None:
        self._on(css, lambda there: self.post(f"{there}/click"))

    def type(self, css: str, keys: str) -> None:
        self._on(css, lambda there: self.post(f"{there}/value", text=keys))

    def press(self, key: str, shift: bool = False) -> None:
        """One key, to whatever has the focus."""
        downs = [{"type": "keyDown", "value": "\ue008"}] if shift else []
        ups = [{"type": "keyUp", "value": "\ue008"}] if shift else []
        strokes = [*downs, {"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}, *ups]
        self.post("/actions", actions=[{"type": "key", "id": "keyboard", "actions": strokes}])

    def run(self, script: str, *arguments: Any) -> Any:
        return self.post("/execute/sync", script=script, args=list(arguments))

    def errors(self) -> list[str]:
        said = self.post("/se/log", type="browser")
        return [entry["message"] for entry in said if entry["level"] == "SEVERE"]

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("GET", f"{self.session}/screenshot")))

    def until(self, done: Any, timeout_s: float, what: str) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (found := done()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come within {timeout_s} s; {self.errors()}")
            time.sleep(0.1)
        return found

    def post(self, path: str, **body: Any) -> Any:
        return self._send("POST", self.session + path, body)

    def _on(self, css: str, act: Callable[[str], Any]) -> Any:
        """Act on the first match; a page may draw it anew between finding and acting, so twice more."""
        for _ in range(2):
            try:
                return act(f"/element/{self.find(css)}")
            except Gone:
                continue
        return act(f"/element/{self.find(css)}")

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self.http.request(method, path, json=body if method == "POST" else None).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            kind = Gone if answer["error"] == "stale element reference" else RuntimeError
            raise kind(f"{path}: {answer['error']}: {answer['message'].splitlines()[0]}")
        return answer

    def _wait_up(self) -> None:
        for _ in range(600):
            try:
                if self._send("GET", "/status")["ready"]:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise TimeoutError("chromedriver did not start")
