"""Idempotency-Key: a request that is sent twice is done once and answered twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response

from redpencil.errors import BadInput
from redpencil.store import Store
from services.house import Here

LONGEST_KEY = 200
Answer = tuple[int, Any]


@dataclass(frozen=True)
class Once:
    """Call it with what is to be done: with a key that was seen before, the first answer is given again.

    The same key with another body is refused (422), one still in flight too (409). What fails is
    forgotten, so that it can be tried again under the same key.
    """

    store: Store
    key: str | None
    route: str
    body_hash: str

    def __call__(self, do: Callable[[], Answer]) -> Response:
        if self.key is None:
            return _json(*_written(do()))
        if (replay := self.store.idempotency.begin(self.key, self.route, self.body_hash)) is not None:
            return _json(replay.status, replay.body, {"idempotency-replayed": "true"})
        try:
            status, body = _written(do())
        except BaseException:
            self.store.idempotency.abandon(self.key, self.route)
            raise
        if status >= HTTPStatus.BAD_REQUEST:
            self.store.idempotency.abandon(self.key, self.route)
        else:
            self.store.idempotency.finish(self.key, self.route, status, body)
        return _json(status, body)


async def once(
    request: Request, house: Here, idempotency_key: Annotated[str | None, Header()] = None
) -> Once:
    if idempotency_key is not None and not _usable(idempotency_key):
        raise BadInput(f"Idempotency-Key must be 1 to {LONGEST_KEY} printable characters")
    route = f"{request.method} {request.url.path}?{request.url.query}"
    digest = hashlib.sha256(await request.body()).hexdigest()
    return Once(house.store, idempotency_key, route, digest)


OnceOnly = Annotated[Once, Depends(once)]


def _usable(key: str) -> bool:
    return 0 < len(key) <= LONGEST_KEY and key.isprintable()


def _written(answer: Answer) -> tuple[int, str]:
    status, body = answer
    return status, json.dumps(body, ensure_ascii=False)


def _json(status: int, body: str, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")
