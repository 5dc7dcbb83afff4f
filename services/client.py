"""The HTTP client of the command line: one call, one answer, errors in the server's own words."""

from __future__ import annotations

import getpass
import os
import secrets
import ssl
from functools import cache
from http import HTTPStatus
from typing import Any

import httpx

from redpencil.errors import BadInput, NotReady, RedpencilError
from redpencil.settings import Settings
from redpencil.types import Task

TIMEOUT_S = 120.0
WRONG = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, 422)
"""What was sent cannot be taken, and never will be."""


class Client:
    """Talks to serving and services as one person; every creation carries an idempotency key."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        keys = sorted(settings.keys())
        headers: dict[str, Any] = {"X-Author": _login().encode()}
        if keys:
            headers["Authorization"] = f"Bearer {keys[0]}"
        self._http = httpx.Client(timeout=TIMEOUT_S, headers=headers, verify=trusted(), trust_env=False)

    def read(self, path: str, **query: Any) -> Any:
        return self._call("GET", self._settings.services + path, params=_given(query))

    def send(self, path: str, body: Any = None, method: str = "POST") -> Any:
        key = {"Idempotency-Key": secrets.token_hex(16)}
        return self._call(method, self._settings.services + path, json=body or {}, headers=key)

    def predict(self, data: bytes, media_type: str, task: Task = Task.OCR, **query: Any) -> Any:
        """One file through serving: POST /v1/ocr, or /v1/captions."""
        url = f"{self._settings.serving}/v1/{'ocr' if task is Task.OCR else 'captions'}"
        kind = {"Content-Type": media_type}
        return self._call("POST", url, content=data, params=_given(query), headers=kind)

    def add_image(self, data: bytes, media_type: str, group: str) -> tuple[str, str]:
        """Make an image known without reading it; its sha256, and the first group it was ever sent with."""
        url, kind = self._settings.services + "/v1/images", {"Content-Type": media_type}
        kept = self._call("POST", url, content=data, params={"group": group}, headers=kind)
        return str(kept["image"]), str(kept["group"])

    def add_corrections(self, lines: bytes) -> Any:
        """Import corrections, one JSON object a line; what was refused is in the answer."""
        url, kind = (
            self._settings.services + "/v1/corrections/import",
            {"Content-Type": "application/x-ndjson"},
        )
        return self._call("POST", url, content=lines, headers=kind)

    def serving(self, path: str) -> Any:
        return self._call("GET", self._settings.serving + path)

    def _call(self, method: str, url: str, **arguments: Any) -> Any:
        try:
            answer = self._http.request(method, url, **arguments)
        except UnicodeError as e:
            raise BadInput(f"what was given is not UTF-8 text: {e}") from e
        except httpx.ConnectError as e:
            raise NotReady(f"nothing answers at {url}; start everything with `redpencil up`") from e
        except httpx.TimeoutException as e:
            raise NotReady(f"{url} did not answer within {TIMEOUT_S:.0f} s; see `redpencil status`") from e
        except httpx.TransportError as e:
            raise NotReady(f"{url} broke off ({e}); see `redpencil status`") from e
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            raise RedpencilError(f"{url} asks for a key: set REDPENCIL_API_KEYS to one that it knows")
        if answer.is_error:
            raise (BadInput if answer.status_code in WRONG else RedpencilError)(_words(answer))
        return answer.json() if answer.content else None


@cache
def trusted() -> ssl.SSLContext:
    """Certificates as the environment says (SSL_CERT_FILE), though its proxies are not asked; read once."""
    return httpx.create_ssl_context()


def _login() -> str:
    """The name of who is logged in, or the number where it has none, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def _words(answer: httpx.Response) -> str:
    """The message of the one error shape, or the raw answer where something else replied."""
    if "json" in answer.headers.get("content-type", ""):
        message = answer.json().get("error", {}).get("message")
        if message:
            return str(message)
    return f"HTTP {answer.status_code} from {answer.url}: {answer.text[:300]}"


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
