"""What is up, what is served, what is going on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from typing import Any

import httpx

from redpencil.types import RunState
from services import local
from services.house import House
from services.models import serving
from services.views import of_run

PROBE_S = 1.0
LOW_DISK_BYTES = 2 * 2**30


def overview(house: House, models: Sequence[str]) -> dict[str, Any]:
    return {
        "at": time.time(),
        "parts": parts(house),
        "models": {model: _model(house, model) for model in models},
        "disk": disk(house),
        "audit_share": house.settings.audit_share,
        "links": {"mlflow": house.settings.mlflow, "serving": house.settings.serving},
    }


def parts(house: House) -> dict[str, dict[str, Any]]:
    """Each part of Redpencil with whether it is up, and words where it is not."""
    trouble = house.scheduler.trouble
    standings = house.reconciler.standings.values()
    ill = next((s.why for s in standings if s.state in ("error", "stalled", "deleted")), "")
    return {
        "serving": _probe(f"{local.serving(house.settings)}/health"),
        "mlflow": _probe(f"{house.settings.mlflow}/health"),
        "scheduler": {"up": not trouble, "why": trouble},
        "reconciler": {"up": not ill, "why": ill},
    }


def disk(house: House) -> dict[str, Any]:
    usage = shutil.disk_usage(house.settings.home)
    return {"free_bytes": usage.free, "total_bytes": usage.total, "low": usage.free < LOW_DISK_BYTES}


def _model(house: House, model: str) -> dict[str, Any]:
    going = house.store.runs.list(model, [RunState.RUNNING, RunState.QUEUED])
    last = house.store.runs.list(model, limit=1)
    experiment = house.store.experiments.current(model)
    judging = house.judge.now
    task = house.settings.task_of(model)
    return {
        "task": task.value,
        "versions": len(house.store.versions.list(model)),
        "serving": serving(model, house),
        "runs": [of_run(r, house.settings.mlflow) for r in going],
        "last_run": of_run(last[0], house.settings.mlflow) if last else None,
        "experiment": None if experiment is None else experiment.id,
        "judging": judging[1] if judging and judging[0] == model else None,
        "to_review": house.store.predictions.uncorrected_count(model),
        "corrections": house.store.corrections.count_since(task, 0),
        "new_corrections": house.scheduler.schedule.stated(model),
        "next_run_at": house.scheduler.schedule.next_at(model),
        "schedule": house.scheduler.schedule.skipped(model),
    }


def _probe(url: str) -> dict[str, Any]:
    try:
        answer = httpx.get(url, timeout=PROBE_S, trust_env=False)
    except httpx.HTTPError as error:
        return {"up": False, "why": f"{url} does not answer ({type(error).__name__})"}
    up = answer.status_code == 200
    return {"up": up, "why": "" if up else f"{url} answers {answer.status_code}: {answer.text[:200]}"}
