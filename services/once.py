"""Idempotency-Key: a request that is sent twice is done once and answered twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response

from redpencil.errors import BadInput
from redpencil.store import Store
from services.house import Here

LONGEST_KEY = 200
Answer = tuple[int, Any]


@dataclass
class Once:
    """Call it with what is to be done: with a key that was seen before, the first answer is given again.

    The same key with another body is refused (422), one still in flight too (409). What fails is
    forgotten, so that it can be tried again under the same key. What is done in a `transaction` is done
    once even where the process is killed; what else is done may be done again, long after such a death.
    """

    store: Store
    key: str | None
    route: str
    body_hash: str
    kept: Answer | None = None

    def __call__(self, do: Callable[[], Answer]) -> Response:
        keys = self.store.idempotency
        if self.key is None:
            return _json(*_written(do()))
        if (replay := keys.begin(self.key, self.route, self.body_hash)) is not None:
            return _json(replay.status, replay.body, {"idempotency-replayed": "true"})
        try:
            answer = self._done(self.key, do)
            if answer is not self.kept and answer[0] < HTTPStatus.BAD_REQUEST:
                keys.finish(self.key, self.route, *_written(answer))
        finally:
            keys.over(self.key, self.route)
        return _json(*_written(answer))

    @contextmanager
    def transaction(self) -> Iterator[Callable[[int, Any], Answer]]:
        """What is written to the store in it is kept together with the answer that it is told, or not at all.

        Nothing slow belongs into it: all other writers wait. Where there is more to be done after it, the
        answer may be told as it is by then; the one that `do` returns takes its place.
        """

        def answered(status: int, body: Any) -> Answer:
            self.kept = status, body
            if self.key is not None:
                self.store.idempotency.finish(self.key, self.route, *_written(self.kept))
            return self.kept

        with self.store.transaction():
            yield answered

    def _done(self, key: str, do: Callable[[], Answer]) -> Answer:
        """The answer; what failed before it had one is forgotten."""
        try:
            answer = do()
        except BaseException:
            self.store.idempotency.abandon(key, self.route)
            raise
        if answer[0] >= HTTPStatus.BAD_REQUEST:
            self.store.idempotency.abandon(key, self.route)
        return answer


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
