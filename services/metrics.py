"""A few gauges for Prometheus, read at scrape time."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from redpencil.types import RunState
from services.house import Here
from services.status import disk

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
def exposition(house: Here) -> Response:
    """What waits, what runs, what is served, and the room on the disk."""
    registry = CollectorRegistry()

    def gauge(name: str, told: str) -> Gauge:
        return Gauge(f"redpencil_{name}", told, ["model"], registry=registry)

    corrections = gauge("corrections", "Corrections that are not revoked")
    waiting = gauge("review_waiting", "Lines that nobody has corrected yet")
    runs = gauge("training_runs_open", "Training runs that wait or go on")
    revision = gauge("serving_revision", "Revision of the desired state")
    agreed = gauge("registry_agrees", "1 where registry and serving name the same champion, or both none")
    for model in house.models:
        corrections.labels(model).set(house.store.corrections.count_since(house.settings.task_of(model), 0))
        waiting.labels(model).set(house.store.predictions.uncorrected_count(model))
        runs.labels(model).set(
            len(house.store.runs.list(model, [RunState.RUNNING, RunState.QUEUED], limit=500))
        )
        revision.labels(model).set(house.store.serving.get(model).revision)
        agreed.labels(model).set(house.reconciler.standings[model].state in ("agreed", "empty", "refused"))
    free = Gauge("redpencil_disk_free_bytes", "Free bytes where everything is kept", registry=registry)
    free.set(disk(house)["free_bytes"])
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
