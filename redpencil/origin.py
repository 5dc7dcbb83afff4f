"""Keeps other people's web pages from acting here through a visitor's browser."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from redpencil.asgi import App, Receive, Scope, Send
from redpencil.errors import Malformed, Unauthorized
from redpencil.ports import HERE
from redpencil.settings import Settings

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class SameOrigin:
    """Refuses a change that a browser says comes from a page of another origin.

    Programs send no Origin and pass. On a machine without keys this is what stands between a web
    page that somebody happens to open and a rollback. There `names` are the only ones by which it may
    be called, or such a page could give this machine a name of its own (DNS rebinding); `setting` adds one.
    """

    def __init__(
        self, app: App, names: Collection[str], setting: str, open_paths: Collection[str] = ()
    ) -> None:
        self.app, self.names, self.setting, self.open_paths = app, names, setting, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            self._check(scope, headers.get(b"host", ""), headers.get(b"origin", ""))
        await self.app(scope, receive, send)

    def _check(self, scope: Scope, host: str, origin: str) -> None:
        name = _split(f"//{host}").hostname or ""
        if self.names and name not in self.names and scope["path"] not in self.open_paths:
            raise Unauthorized(f"it is not known here as {name!r}: {self.setting} says its address")
        if origin and scope["method"] not in SAFE and _split(origin).netloc != host:
            raise Unauthorized(
                f"a page of {origin} may change nothing here; have a proxy before it pass the Host header on"
            )


def names_of(settings: Settings, url: str) -> frozenset[str]:
    """By what names a machine without keys may be called that people know at `url`; with keys by any."""
    if settings.keys():
        return frozenset()
    return frozenset({*HERE, settings.host, urlsplit(url).hostname or ""})


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError as error:
        raise Malformed(f"{address!r} is no address: {error}") from error
