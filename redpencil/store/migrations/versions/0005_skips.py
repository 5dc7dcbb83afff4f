"""When a time for a run last came and there was nothing to learn."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "skips",
        sa.Column("model", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("model", name="pk_skips"),
    )


def downgrade() -> None:
    op.drop_table("skips")
