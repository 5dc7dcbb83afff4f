"""What Prometheus is told; one set per replica, so several can live in one process."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

ARM = ("model", "version", "variant")
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
GROUP_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters and histograms labelled model, version and variant, as /metrics shows them."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self._images = Counter("redpencil_images", "images answered", ARM, registry=own)
        self._seconds = Histogram(
            "redpencil_answer_seconds",
            "from admission until the answer is on disk",
            ARM,
            buckets=SECONDS,
            registry=own,
        )
        self._reading = Histogram(
            "redpencil_reading_seconds",
            "from the first look at an image to its last line",
            ARM,
            buckets=SECONDS,
            registry=own,
        )
        self._lines = Counter("redpencil_lines", "lines (of captions: pages) read", ARM, registry=own)
        self._errors = Counter(
            "redpencil_errors", "images refused or failed", ("model", "type"), registry=own
        )
        self._mirrors = Counter(
            "redpencil_mirrored", "answers read again by the challenger", ("model", "fate"), registry=own
        )
        self._commit = Histogram(
            "redpencil_journal_commit_seconds",
            "one group commit that held predictions of the model",
            ("model",),
            buckets=SECONDS,
            registry=own,
        )
        self._group = Histogram(
            "redpencil_journal_group_size",
            "predictions of the model per commit",
            ("model",),
            buckets=GROUP_SIZES,
            registry=own,
        )
        self._waiting = Gauge(
            "redpencil_waiting_images", "images admitted and not yet answered", ("model",), registry=own
        )
        self._revision = Gauge(
            "redpencil_serving_revision", "revision of the state being served", ("model",), registry=own
        )

    def watch(self, model: str, waiting: Callable[[], float], revision: Callable[[], float]) -> None:
        """Ask these about a model whenever somebody looks."""
        self._waiting.labels(model).set_function(waiting)
        self._revision.labels(model).set_function(revision)

    def answered(
        self, model: str, version: str, variant: str, lines: int, reading_s: float, total_s: float
    ) -> None:
        arm = (model, version, variant)
        self._images.labels(*arm).inc()
        self._lines.labels(*arm).inc(lines)
        self._reading.labels(*arm).observe(reading_s)
        self._seconds.labels(*arm).observe(total_s)

    def failed(self, model: str, kind: str) -> None:
        """`model` is empty where the request asked for none."""
        self._errors.labels(model, kind).inc()

    def mirrored(self, model: str, fate: str) -> None:
        """`fate`: read, dropped (no time) or failed."""
        self._mirrors.labels(model, fate).inc()

    def committed(self, models: Sequence[str], seconds: float) -> None:
        for model, entries in Tally(models).items():
            self._group.labels(model).observe(entries)
            self._commit.labels(model).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)
