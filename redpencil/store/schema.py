"""The tables. Dataclass fields keep their names; what is frozen is guarded by triggers (see migrations)."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

REVISION = "0005"
"""The migration that these tables belong to."""


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Json(TypeDecorator[Any]):
    """A value as compact JSON text, the same on both databases."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else _encode(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


def key() -> String:
    """Ids and names; compared byte by byte, so that ids sort by time whatever the locale."""
    return String().with_variant(String(collation="C"), "postgresql")


def number() -> BigInteger:
    """A counter that the database raises by itself; the order in which rows came."""
    return BigInteger().with_variant(Integer(), "sqlite")


def _only(where: str) -> dict[str, Any]:
    """An index of some rows alone."""
    return {"sqlite_where": text(where), "postgresql_where": text(where)}


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

images = Table(
    "images",
    metadata,
    Column("sha256", key(), primary_key=True),
    Column("group", key(), nullable=False),
    Column("media_type", key(), nullable=False),
    Column("created_at", Double, nullable=False),
)

predictions = Table(
    "predictions",
    metadata,
    Column("id", key(), primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("image", key(), ForeignKey("images.sha256"), nullable=False),
    Column("task", key(), nullable=False),
    Column("model", key(), nullable=False),
    Column("version", key(), nullable=False),
    Column("variant", key(), nullable=False),
    Column("pages", Json, nullable=False),
    Column("latency_ms", Double, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("request_id", key(), nullable=False),
    Column("client_key", key(), nullable=False),
    Column("mirror_of", key()),
    Index("ix_predictions_model", "model", "id"),
    Index("ix_predictions_version", "model", "version", "id"),
    Index("ix_predictions_image", "image", "model"),
    Index("ix_predictions_exposed", "model", "version", "created_at"),
)
Index("ix_predictions_mirror_of", predictions.c.mirror_of, **_only("mirror_of IS NOT NULL"))

blocks = Table(
    "blocks",
    metadata,
    Column("n", number(), primary_key=True),
    Column("prediction", key(), ForeignKey("predictions.id"), nullable=False),
    Column("id", key(), nullable=False),
    Column("page", Integer, nullable=False),
    Column("polygon", Json, nullable=False),
    Column("text", Text, nullable=False),
    Column("confidence", Double, nullable=False),
    Column("char_confidence", Json, nullable=False),
    # the model in whose review queue it stands; null where nobody saw it (the answer was mirrored), where
    # something is said of its place, and where the image was read anew
    Column("review", key()),
    Index("uq_blocks_prediction_id", "prediction", "id", unique=True),
    Index("ix_blocks_review", "review", "confidence"),
)

corrections = Table(
    "corrections",
    metadata,
    Column("n", number(), primary_key=True),
    Column("id", key(), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("task", key(), nullable=False),
    Column("image", key(), ForeignKey("images.sha256"), nullable=False),
    Column("page", Integer, nullable=False),
    Column("polygon", Json, nullable=False),
    Column("text", Text, nullable=False),
    Column("kind", key(), nullable=False),
    Column("author", key(), nullable=False),
    Column("model", key(), nullable=False),
    Column("version", key(), nullable=False),
    Column("variant", key(), nullable=False),
    Column("prediction", key()),
    Column("region", key()),
    Column("predicted", Text),
    Column("audit_probability", Double),
    Index("uq_corrections_id", "id", unique=True),
    Index("ix_corrections_prediction", "prediction", "region"),
    Index("ix_corrections_image", "image"),
    Index("ix_corrections_task", "task", "created_at"),
    Index("ix_corrections_labels", "model", "version", "created_at"),
    Index("ix_corrections_model", "model", "n"),
)

revocations = Table(
    "revocations",
    metadata,
    Column("correction", key(), ForeignKey("corrections.id"), primary_key=True),
    Column("at", Double, nullable=False),
    Column("who", key(), nullable=False),
    Column("why", Text, nullable=False),
)

doubts = Table(
    "doubts",
    metadata,
    Column("run", key(), ForeignKey("runs.id"), primary_key=True),
    Column("correction", key(), ForeignKey("corrections.id"), primary_key=True),
    Column("at", Double, nullable=False),
    Column("score", Double, nullable=False),
    Column("left_out", Boolean, nullable=False),
    Column("why", Text, nullable=False),
    Index("ix_doubts_correction", "correction", "at"),
    Index("ix_doubts_score", "score"),
)

confirmations = Table(
    "confirmations",
    metadata,
    Column("correction", key(), ForeignKey("corrections.id"), primary_key=True),
    Column("at", Double, nullable=False),
    Column("who", key(), nullable=False),
    Column("why", Text, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", key(), primary_key=True),
    Column("route", key(), primary_key=True),
    Column("body_hash", key(), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("status", Integer),
    Column("body", Text),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("id", key(), primary_key=True),
    Column("task", key(), nullable=False),
    Column("created_at", Double, nullable=False),
)

snapshot_members = Table(
    "snapshot_members",
    metadata,
    Column("snapshot", key(), ForeignKey("snapshots.id"), primary_key=True),
    Column("correction", key(), ForeignKey("corrections.id"), primary_key=True),
    Column("split", key(), nullable=False),
    Index("ix_snapshot_members_correction", "correction", "split"),
    sqlite_with_rowid=False,  # long keys, many rows: stored once, not twice
)

runs = Table(
    "runs",
    metadata,
    Column("id", key(), primary_key=True),
    Column("model", key(), nullable=False),
    Column("recipe", key(), nullable=False),
    Column("state", key(), nullable=False),
    Column("trigger", key(), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("params", Json, nullable=False),
    Column("phase", key(), nullable=False),
    Column("progress", Json, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("attempts", Integer, nullable=False),
    Column("pid", Integer),
    Column("snapshot", key()),
    Column("mlflow_run", key()),
    Column("version", key()),
    Column("error", Text),
    Column("cancel_requested", Boolean, nullable=False),
    Index("ix_runs_model", "model", "state"),
)
Index("uq_runs_one_running", runs.c.model, unique=True, **_only("state = 'running'"))

skips = Table(
    "skips",
    metadata,
    Column("model", key(), primary_key=True),
    Column("at", Double, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", key(), primary_key=True),
    Column("version", key(), primary_key=True),
    Column("bundle", key(), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("parent", key()),
    Column("snapshot", key()),
    Column("run", key()),
    Index("ix_versions_snapshot", "snapshot"),
    Index("ix_versions_parent", "model", "parent"),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("n", number(), primary_key=True),
    Column("model", key(), nullable=False),
    Column("version", key(), nullable=False),
    Column("outcome", key(), nullable=False),
    Column("reasons", Json, nullable=False),
    Column("precision", key(), nullable=False),
    Column("scores", Json, nullable=False),
    Column("items", Json, nullable=False),
    Column("candidate", key(), nullable=False),
    Column("champion", key(), nullable=False),
    Column("judged_at", Double, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
    Index("ix_verdicts_version", "model", "version", "n"),
)

serving = Table(
    "serving",
    metadata,
    Column("model", key(), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("champion", key()),
    Column("challenger", key()),
    Column("previous", key()),
    Column("weight", Double, nullable=False),
    Column("mirror", Double, nullable=False),
    Column("experiment", key()),
)

ledger = Table(
    "ledger",
    metadata,
    Column("n", number(), primary_key=True),
    Column("id", key(), nullable=False),
    Column("at", Double, nullable=False),
    Column("who", key(), nullable=False),
    Column("action", key(), nullable=False),
    Column("model", key(), nullable=False),
    Column("from_version", key()),
    Column("to_version", key()),
    Column("why", Text, nullable=False),
    Column("detail", Json, nullable=False),
    Index("uq_ledger_id", "id", unique=True),
    Index("ix_ledger_model", "model", "n"),
    Index("ix_ledger_to_version", "model", "to_version", "action"),
)

experiments = Table(
    "experiments",
    metadata,
    Column("id", key(), primary_key=True),
    Column("model", key(), nullable=False),
    Column("champion", key(), nullable=False),
    Column("challenger", key(), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("started_by", key(), nullable=False),
    Column("ended_at", Double),
    Column("why", Text, nullable=False),
    Index("ix_experiments_model", "model", "started_at"),
)
Index("uq_experiments_one_current", experiments.c.model, unique=True, **_only("ended_at IS NULL"))

replicas = Table(
    "replicas",
    metadata,
    Column("replica", key(), primary_key=True),
    Column("model", key(), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("champion", key()),
    Column("challenger", key()),
    Column("previous", key()),
    Column("error", Text),
    Column("at", Double, nullable=False),
    Index("ix_replicas_model", "model", "at"),
)
