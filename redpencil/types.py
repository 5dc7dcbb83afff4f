"""The nouns of the system, as frozen dataclasses. Times are UTC seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Polygon = tuple[tuple[float, float], ...]
"""Four corners (x, y) in pixels of the upright page, clockwise from the line's own top left."""


class Task(StrEnum):
    """What is asked of an image."""

    OCR = "ocr"
    CAPTION = "caption"


class Variant(StrEnum):
    """Why a version answered: its arm in the experiment, or because the client named it."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    EXPLICIT = "explicit"


class Kind(StrEnum):
    """How a correction came about: edited text, a confirmed reading, or typed unseen."""

    CORRECT = "correct"
    ACCEPT = "accept"
    BLIND = "blind"


class Split(StrEnum):
    """The side of the line on which an image stands for life."""

    TRAIN = "train"
    HOLDOUT = "holdout"


class CorrectionState(StrEnum):
    """How far a correction has come; derived from what happened, never stored."""

    SUBMITTED = "submitted"
    SNAPSHOTTED = "snapshotted"
    TRAINED = "trained"
    DEPLOYED = "deployed"
    REVOKED = "revoked"


class RunState(StrEnum):
    """The life of a training run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


class Outcome(StrEnum):
    """What the gate says."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Precision(StrEnum):
    FP32 = "fp32"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class LineText:
    """What a recogniser read: the text, its confidence, and one confidence per character of it.

    Confidences lie in 0..1; `confidence` is the mean over characters, 0.0 for an empty reading.
    """

    text: str
    confidence: float
    char_confidence: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """An uploaded file by its content. `group` is the client's document name, else the sha256."""

    sha256: str
    group: str
    media_type: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Block:
    """One region of one page with what was read there. `id` is unique within its prediction."""

    id: str
    page: int
    polygon: Polygon
    text: str
    confidence: float
    char_confidence: tuple[float, ...] = ()

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 around the polygon, in whole pixels."""
        xs, ys = zip(*self.polygon, strict=True)
        return (int(min(xs)), int(min(ys)), int(-(-max(xs) // 1)), int(-(-max(ys) // 1)))


@dataclass(frozen=True, slots=True)
class Page:
    """The size of one upright page, in pixels."""

    index: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """One image answered by one version. A mirrored answer names the one it shadows."""

    id: str
    created_at: float
    image: str
    task: Task
    model: str
    version: str
    variant: Variant
    pages: tuple[Page, ...]
    blocks: tuple[Block, ...]
    latency_ms: float
    revision: int = 0
    request_id: str = ""
    client_key: str = ""
    mirror_of: str | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """The truth for one region of one image, as a person stated it.

    `version` and `variant` are those of the corrected prediction, empty where there was none.
    `predicted` is what the machine had read there. `audit_probability` is the known chance with
    which the line was drawn for a random audit, None where a person chose it.
    """

    id: str
    created_at: float
    task: Task
    image: str
    group: str
    page: int
    polygon: Polygon
    text: str
    kind: Kind
    author: str
    model: str = ""
    version: str = ""
    variant: str = ""
    prediction: str | None = None
    region: str | None = None
    predicted: str | None = None
    audit_probability: float | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One line of a snapshot: which correction, where its pixels are, and its side."""

    correction: str
    image: str
    group: str
    page: int
    polygon: Polygon
    text: str
    split: Split


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frozen training set; `id` is the hash of its manifest, so equal content has equal id."""

    id: str
    task: Task
    members: tuple[Member, ...]

    def side(self, split: Split) -> tuple[Member, ...]:
        return tuple(m for m in self.members if m.split is split)


@dataclass(frozen=True, slots=True)
class Doubt:
    """How likely a correction is wrong (0..1), as a run saw it before learning, and why, in words.

    `left_out`: the run did not learn from it.
    """

    run: str
    correction: str
    at: float
    score: float
    left_out: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A training run, as asked for and as far as it has come."""

    id: str
    model: str
    recipe: str
    state: RunState
    trigger: str
    created_at: float
    params: dict[str, Any] = field(default_factory=dict)
    phase: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    pid: int | None = None
    snapshot: str | None = None
    mlflow_run: str | None = None
    version: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version: which bundle, and where it came from."""

    model: str
    version: str
    bundle: str
    created_at: float
    parent: str | None = None
    snapshot: str | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's judgement on one candidate against one champion.

    `scores` holds per slice what was measured; `items` says per correction fixed, still_wrong,
    newly_broken or still_right; `precision` is what may be served.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    precision: Precision
    scores: dict[str, Any]
    items: dict[str, str]
    candidate: str = ""
    champion: str = ""
    judged_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ServingState:
    """What serving should do for a model; every change raises `revision` by one.

    `weight` is the share of requests answered by the challenger, `mirror` the share answered by
    the champion and also read by the challenger, both 0..1.
    """

    model: str
    revision: int = 0
    champion: str | None = None
    challenger: str | None = None
    previous: str | None = None
    weight: float = 0.0
    mirror: float = 0.0
    experiment: str | None = None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One thing that happened to what is served; entries are only ever added."""

    id: str
    at: float
    who: str
    action: str
    model: str
    from_version: str | None
    to_version: str | None
    why: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Experiment:
    """A comparison of two versions on live corrections; ended where `ended_at` is set."""

    id: str
    model: str
    champion: str
    challenger: str
    started_at: float
    started_by: str
    ended_at: float | None = None
    why: str = ""
