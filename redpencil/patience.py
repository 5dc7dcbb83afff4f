"""Waiting for a part that is away or busy, no longer than is said."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TypeVar

from redpencil.errors import Busy, NotReady

log = logging.getLogger(__name__)

T = TypeVar("T")


def patiently(call: Callable[[], T], patience_s: float) -> T:
    """Call again while the database is busy or away, or MLflow or the blobs are.

    The first failure is logged; the one that comes `patience_s` after it or later is raised.
    """
    until = math.inf
    while True:
        try:
            return call()
        except (Busy, NotReady) as error:
            if until == math.inf:
                until = time.monotonic() + patience_s
                log.warning("waiting, for %.0f s at most: %s", patience_s, error)
            if time.monotonic() >= until:
                raise
            time.sleep(1)
