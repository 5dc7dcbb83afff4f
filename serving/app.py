"""The Ray Serve application; the only file that knows Serve.

The replica that takes a request also runs the model: a hop between replicas would cost several
times the throughput.
"""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from redpencil.settings import Settings


@serve.ingress()
class Replica:
    """One process: HTTP, models, journal. Ready once the OCR champion is warm."""

    def __init__(self, chosen: dict[str, Any]) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
        self._settings = Settings.model_validate(chosen)

    def __serve_build_asgi_app__(self) -> FastAPI:
        # Here and not above: the process that only starts replicas needs none of it in memory.
        from serving import api, pages
        from serving.engine import threads_of
        from serving.reader import SEARCH_THREADS

        finder = pages.Detector(min(threads_of(self._settings), SEARCH_THREADS))
        finder.warm()
        self._api = api.build(self._settings, finder, echo_request_id=False)
        return self._api

    async def check_health(self) -> None:
        """Serve asks now and then, and replaces a replica that raises."""
        self._api.state.models.check()


def build(args: dict[str, Any]) -> Application:
    """The application; `args` override settings, which else come from the environment."""
    settings = Settings(**args)
    deployment = serve.deployment(Replica).options(
        name=settings.model,
        num_replicas=settings.replicas,
        max_ongoing_requests=1000,  # admission control inside decides earlier, and says when to return
        ray_actor_options={"num_cpus": 1, "num_gpus": int(settings.device == "cuda")},
        graceful_shutdown_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.2,
        health_check_period_s=5,
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    return deployment.bind(settings.model_dump(mode="json"))
