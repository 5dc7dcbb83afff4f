"""`python -m services`: corrections, control and console until SIGINT or SIGTERM."""

from __future__ import annotations

import logging

import uvicorn

from redpencil.settings import Settings
from services.app import build

GRACE_S = 5


def main() -> None:
    settings = Settings()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvicorn.run(
        build(settings),
        host=settings.host,
        port=settings.services_port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
    )


if __name__ == "__main__":
    main()
