"""Proof that a line was drawn by chance: a token that only this installation can make.

Audit labels are an unbiased sample only if nobody can claim the chance after the fact. The token
binds one line of one prediction to the probability with which it was drawn.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path

from redpencil.errors import BadInput

WRONG = "this audit_token was not given out here for this line; leave it out, or ask /v1/review/next again"


class Auditor:
    """Signs and checks audit tokens with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of(cls, home: Path, secret: str = "") -> Auditor:
        """With the given secret, else with one kept in `home`, made on first use."""
        return cls(secret.encode() if secret else _kept(home / "audit.key"))

    def token(self, prediction: str, region: str, probability: float) -> str:
        payload = json.dumps([prediction, region, probability], separators=(",", ":")).encode()
        return f"{_encoded(payload)}.{_encoded(self._signature(payload))}"

    def probability(self, token: str, prediction: str | None, region: str | None) -> float:
        """The chance with which the line was drawn; BadInput where the token is not for this line."""
        payload, _, signature = token.partition(".")
        try:
            said, signed = _decoded(payload), _decoded(signature)
        except (binascii.Error, ValueError) as error:
            raise BadInput(WRONG) from error
        if not hmac.compare_digest(signed, self._signature(said)):
            raise BadInput(WRONG)
        about, where, probability = json.loads(said)
        if (about, where) != (prediction, region):
            raise BadInput(WRONG)
        return float(probability)

    def _signature(self, payload: bytes) -> bytes:
        return hmac.digest(self._secret, b"redpencil-audit-v1:" + payload, hashlib.sha256)


def _kept(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}")
    beside.touch(0o600)
    beside.write_bytes(secrets.token_bytes(32))
    try:
        os.link(beside, path)  # whole or not at all, and never over one that is there
    except FileExistsError:
        return path.read_bytes()
    finally:
        beside.unlink()
    return path.read_bytes()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
