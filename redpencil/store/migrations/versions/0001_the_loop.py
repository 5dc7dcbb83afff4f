"""The tables of the loop, and triggers that keep what is frozen frozen."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

FROZEN = ("corrections", "revocations", "ledger", "snapshots", "snapshot_members")
"""Rows of these are only ever added. Of images only the deletion is left, as no side may change."""


def upgrade() -> None:
    make_answers()
    make_corrections()
    make_snapshots()
    make_training()
    make_serving()
    make_edges()
    for table in FROZEN:
        forbid(table, "UPDATE", "DELETE", "TRUNCATE")
    forbid("images", "UPDATE")


def downgrade() -> None:
    raise NotImplementedError(
        "What people stated is never dropped; delete the database by hand if you mean it."
    )


def key(name: str, **options: Any) -> sa.Column[Any]:
    """Compared byte by byte on PostgreSQL too, whatever its locale."""
    kind = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    return sa.Column(name, kind, nullable=options.pop("nullable", False), **options)


def maybe(name: str) -> sa.Column[Any]:
    return key(name, nullable=True)


def number(name: str = "n") -> sa.Column[Any]:
    return sa.Column(
        name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, autoincrement=True
    )


def real(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def whole(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def words(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def primary(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [to], name=f"fk_{table}_{column}")


def index_where(name: str, table: str, columns: list[str], where: str, unique: bool = False) -> None:
    only = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=only, postgresql_where=only)


def make_answers() -> None:
    op.create_table(
        "images",
        key("sha256"),
        key("group"),
        key("media_type"),
        real("created_at"),
        primary("images", "sha256"),
    )
    op.create_table(
        "predictions",
        key("id"),
        real("created_at"),
        key("image"),
        key("task"),
        key("model"),
        key("version"),
        key("variant"),
        words("pages"),
        real("latency_ms"),
        whole("revision"),
        key("request_id"),
        key("client_key"),
        maybe("mirror_of"),
        primary("predictions", "id"),
        refers("predictions", "image", "images.sha256"),
    )
    op.create_index("ix_predictions_model", "predictions", ["model", "id"])
    op.create_index("ix_predictions_version", "predictions", ["model", "version", "id"])
    op.create_index("ix_predictions_exposed", "predictions", ["model", "version", "created_at"])
    index_where("ix_predictions_mirror_of", "predictions", ["mirror_of"], "mirror_of IS NOT NULL")
    op.create_table(
        "blocks",
        number(),
        key("prediction"),
        key("id"),
        whole("page"),
        words("polygon"),
        words("text"),
        real("confidence"),
        words("char_confidence"),
        maybe("review"),
        primary("blocks", "n"),
        refers("blocks", "prediction", "predictions.id"),
    )
    op.create_index("uq_blocks_prediction_id", "blocks", ["prediction", "id"], unique=True)
    op.create_index("ix_blocks_review", "blocks", ["review", "confidence"])


def make_corrections() -> None:
    op.create_table(
        "corrections",
        number(),
        key("id"),
        real("created_at"),
        key("task"),
        key("image"),
        whole("page"),
        words("polygon"),
        words("text"),
        key("kind"),
        key("author"),
        key("model"),
        key("version"),
        key("variant"),
        maybe("prediction"),
        maybe("region"),
        words("predicted", nullable=True),
        real("audit_probability", nullable=True),
        primary("corrections", "n"),
        refers("corrections", "image", "images.sha256"),
    )
    op.create_index("uq_corrections_id", "corrections", ["id"], unique=True)
    op.create_index("ix_corrections_prediction", "corrections", ["prediction", "region"])
    op.create_index("ix_corrections_image", "corrections", ["image"])
    op.create_index("ix_corrections_task", "corrections", ["task", "created_at"])
    op.create_index("ix_corrections_labels", "corrections", ["model", "version", "created_at"])
    op.create_table(
        "revocations",
        key("correction"),
        real("at"),
        key("who"),
        words("why"),
        primary("revocations", "correction"),
        sa.ForeignKeyConstraint(["correction"], ["corrections.id"], name="fk_revocations_correction"),
    )


def make_snapshots() -> None:
    op.create_table(
        "snapshots",
        key("id"),
        key("task"),
        real("created_at"),
        primary("snapshots", "id"),
    )
    op.create_table(
        "snapshot_members",
        key("snapshot"),
        key("correction"),
        key("split"),
        primary("snapshot_members", "snapshot", "correction"),
        refers("snapshot_members", "snapshot", "snapshots.id"),
        refers("snapshot_members", "correction", "corrections.id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_snapshot_members_correction", "snapshot_members", ["correction", "split"])


def make_training() -> None:
    op.create_table(
        "runs",
        key("id"),
        key("model"),
        key("recipe"),
        key("state"),
        key("trigger"),
        real("created_at"),
        words("params"),
        key("phase"),
        words("progress"),
        real("started_at", nullable=True),
        real("finished_at", nullable=True),
        whole("attempts"),
        whole("pid", nullable=True),
        maybe("snapshot"),
        maybe("mlflow_run"),
        maybe("version"),
        words("error", nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        primary("runs", "id"),
    )
    op.create_index("ix_runs_model", "runs", ["model", "state"])
    index_where("uq_runs_one_running", "runs", ["model"], "state = 'running'", unique=True)
    op.create_table(
        "versions",
        key("model"),
        key("version"),
        key("bundle"),
        real("created_at"),
        maybe("parent"),
        maybe("snapshot"),
        maybe("run"),
        primary("versions", "model", "version"),
    )
    op.create_index("ix_versions_snapshot", "versions", ["snapshot"])
    op.create_index("ix_versions_parent", "versions", ["model", "parent"])
    op.create_table(
        "verdicts",
        number(),
        key("model"),
        key("version"),
        key("outcome"),
        words("reasons"),
        key("precision"),
        words("scores"),
        words("items"),
        key("candidate"),
        key("champion"),
        real("judged_at"),
        primary("verdicts", "n"),
        sa.ForeignKeyConstraint(
            ["model", "version"], ["versions.model", "versions.version"], name="fk_verdicts_model"
        ),
    )
    op.create_index("ix_verdicts_version", "verdicts", ["model", "version", "n"])


def make_serving() -> None:
    op.create_table(
        "serving",
        key("model"),
        whole("revision"),
        maybe("champion"),
        maybe("challenger"),
        maybe("previous"),
        real("weight"),
        real("mirror"),
        maybe("experiment"),
        primary("serving", "model"),
    )
    op.create_table(
        "ledger",
        number(),
        key("id"),
        real("at"),
        key("who"),
        key("action"),
        key("model"),
        maybe("from_version"),
        maybe("to_version"),
        words("why"),
        words("detail"),
        primary("ledger", "n"),
    )
    op.create_index("uq_ledger_id", "ledger", ["id"], unique=True)
    op.create_index("ix_ledger_model", "ledger", ["model", "n"])
    op.create_index("ix_ledger_to_version", "ledger", ["model", "to_version", "action"])
    op.create_table(
        "experiments",
        key("id"),
        key("model"),
        key("champion"),
        key("challenger"),
        real("started_at"),
        key("started_by"),
        real("ended_at", nullable=True),
        words("why"),
        primary("experiments", "id"),
    )
    op.create_index("ix_experiments_model", "experiments", ["model", "started_at"])
    index_where("uq_experiments_one_current", "experiments", ["model"], "ended_at IS NULL", unique=True)


def make_edges() -> None:
    op.create_table(
        "idempotency",
        key("key"),
        key("route"),
        key("body_hash"),
        real("started_at"),
        whole("status", nullable=True),
        words("body", nullable=True),
        primary("idempotency", "key", "route"),
    )
    op.create_table(
        "replicas",
        key("replica"),
        key("model"),
        whole("pid"),
        whole("revision"),
        maybe("champion"),
        maybe("challenger"),
        maybe("previous"),
        words("error", nullable=True),
        real("at"),
        primary("replicas", "replica"),
    )
    op.create_index("ix_replicas_model", "replicas", ["model", "at"])


def forbid(table: str, *actions: str) -> None:
    """A trigger per action that refuses it."""
    if op.get_bind().dialect.name == "postgresql":
        forbid_on_postgres(table, actions)
        return
    for action in actions:
        if action != "TRUNCATE":  # not a thing in SQLite
            op.execute(
                f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table}: rows are only ever added ({action} refused)'); END"
            )


def forbid_on_postgres(table: str, actions: tuple[str, ...]) -> None:
    op.execute(
        "CREATE OR REPLACE FUNCTION only_ever_added() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '%: rows are only ever added (% refused)', TG_TABLE_NAME, TG_OP; END $$"
    )
    for action in actions:
        op.execute(
            f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION only_ever_added()"
        )
