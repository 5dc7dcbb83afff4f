"""What Prometheus is told; one set per replica, so several can live in one process."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

ARM = ("model", "version", "variant")
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
GROUP_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters and histograms labelled model, version and variant, as /metrics shows them."""

    def __init__(self, model: str, waiting: Callable[[], float], revision: Callable[[], float]) -> None:
        self.model = model
        self.registry = CollectorRegistry()
        shared = {"namespace": "redpencil", "registry": self.registry}
        self._images = Counter("images", "images answered", ARM, **shared)
        self._seconds = Histogram(
            "answer_seconds", "from admission until the answer is on disk", ARM, buckets=SECONDS, **shared
        )
        self._reading = Histogram(
            "reading_seconds",
            "from the first look at an image to its last line",
            ARM,
            buckets=SECONDS,
            **shared,
        )
        self._lines = Counter("lines", "lines read", ARM, **shared)
        self._errors = Counter("errors", "images refused or failed", ("model", "type"), **shared)
        self._mirrors = Counter(
            "mirrored", "answers read again by the challenger", ("model", "fate"), **shared
        )
        commit = Histogram(
            "journal_commit_seconds", "one group commit of predictions", ("model",), buckets=SECONDS, **shared
        )
        group = Histogram(
            "journal_group_size", "predictions per commit", ("model",), buckets=GROUP_SIZES, **shared
        )
        self._commit, self._group = commit.labels(model), group.labels(model)
        gauge = Gauge("waiting_images", "images admitted and not yet answered", ("model",), **shared)
        gauge.labels(model).set_function(waiting)
        following = Gauge("serving_revision", "revision of the state being served", ("model",), **shared)
        following.labels(model).set_function(revision)

    def answered(self, version: str, variant: str, lines: int, reading_s: float, total_s: float) -> None:
        arm = (self.model, version, variant)
        self._images.labels(*arm).inc()
        self._lines.labels(*arm).inc(lines)
        self._reading.labels(*arm).observe(reading_s)
        self._seconds.labels(*arm).observe(total_s)

    def failed(self, kind: str) -> None:
        self._errors.labels(self.model, kind).inc()

    def mirrored(self, fate: str) -> None:
        """`fate`: read, dropped (no time) or failed."""
        self._mirrors.labels(self.model, fate).inc()

    def committed(self, entries: int, seconds: float) -> None:
        self._group.observe(entries)
        self._commit.observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)
