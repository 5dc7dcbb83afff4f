"""Keeps other people's web pages from acting here through a visitor's browser."""

from __future__ import annotations

from urllib.parse import urlsplit

from redpencil.asgi import App, Receive, Scope, Send
from redpencil.errors import Unauthorized

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class SameOrigin:
    """Refuses a change that a browser says comes from a page of another origin.

    Programs send no Origin and pass. On a machine without keys this is what stands between a web
    page that somebody happens to open and a rollback.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE:
            headers = dict(scope["headers"])
            origin, host = (
                headers.get(b"origin", b"").decode("latin-1"),
                headers.get(b"host", b"").decode("latin-1"),
            )
            if origin and urlsplit(origin).netloc != host:
                raise Unauthorized(f"a page of {origin} may not change anything here")
        await self.app(scope, receive, send)
