"""What a run thought of the corrections before it learned, and what people said to that."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

FROZEN = ("doubts", "confirmations")


def upgrade() -> None:
    op.create_table(
        "doubts",
        key("run"),
        key("correction"),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("left_out", sa.Boolean(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "correction", name="pk_doubts"),
        refers("doubts", "run", "runs.id"),
        refers("doubts", "correction", "corrections.id"),
    )
    op.create_index("ix_doubts_correction", "doubts", ["correction", "at"])
    op.create_index("ix_doubts_score", "doubts", ["score"])
    op.create_table(
        "confirmations",
        key("correction"),
        sa.Column("at", sa.Double(), nullable=False),
        key("who"),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("correction", name="pk_confirmations"),
        refers("confirmations", "correction", "corrections.id"),
    )
    for table in FROZEN:
        forbid(table)


def downgrade() -> None:
    raise NotImplementedError(
        "What people stated is never dropped; delete the database by hand if you mean it."
    )


def key(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False)


def refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [to], name=f"fk_{table}_{column}")


def forbid(table: str) -> None:
    """Rows are only ever added, as in the tables of 0001, whose function PostgreSQL has already."""
    if op.get_bind().dialect.name == "postgresql":
        for action in ("UPDATE", "DELETE", "TRUNCATE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION only_ever_added()"
            )
        return
    for action in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table}: rows are only ever added ({action} refused)'); END"
        )
