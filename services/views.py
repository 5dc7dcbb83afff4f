"""The nouns as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from redpencil.types import (
    Correction,
    CorrectionState,
    LedgerEntry,
    ModelVersion,
    Polygon,
    Prediction,
    Run,
    Verdict,
)


def of_correction(correction: Correction, state: CorrectionState) -> dict[str, Any]:
    view = asdict(correction)
    view["prediction_id"] = view.pop("prediction")
    return view | {"bbox": bbox(correction.polygon), "state": state.value}


def of_prediction(prediction: Prediction) -> dict[str, Any]:
    view = asdict(prediction)
    for block, shown in zip(prediction.blocks, view["blocks"], strict=True):
        shown["bbox"] = list(block.bbox)
    return view


def of_run(run: Run, mlflow: str) -> dict[str, Any]:
    links = {}
    if run.mlflow_run:
        links["run"] = f"{mlflow}/#/runs/{run.mlflow_run}"
    if run.version:
        links["version"] = version_page(mlflow, run.model, run.version)
    return asdict(run) | {"eta_s": run.progress.get("eta_s"), "links": links}


def of_version(
    version: ModelVersion, verdict: Verdict | None, mlflow: str, items: int | None = None
) -> dict[str, Any]:
    """A version with its verdict: what each correction became, or with `items` how many these are."""
    view = asdict(version) | {"link": version_page(mlflow, version.model, version.version)}
    counted = {} if items is None else {"items": items}
    return view | {"verdict": None if verdict is None else asdict(verdict) | counted}


def of_entry(entry: LedgerEntry) -> dict[str, Any]:
    return asdict(entry)


def version_page(mlflow: str, model: str, version: str) -> str:
    return f"{mlflow}/#/models/{model}/versions/{version}"


def place_urls(image: str, page: int, polygon: Polygon) -> dict[str, str]:
    """Where the picture of a region is, and that of its page."""
    place = ",".join(f"{number:g}" for point in polygon for number in point)
    url = f"/v1/images/{image}?page={page}"
    return {"image_url": f"{url}&polygon={place}", "page_url": url}


def bbox(polygon: Polygon) -> list[float]:
    xs, ys = zip(*polygon, strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]


def page_of(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """One page of a list and the cursor of the next, null on the last one."""
    more = len(items) > limit
    return {"items": items[:limit], "next": items[limit - 1]["id"] if more else None}
