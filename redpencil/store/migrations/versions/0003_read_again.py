"""What was read of an image before, found quickly."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_index("ix_predictions_image", "predictions", ["image", "model"])


def downgrade() -> None:
    op.drop_index("ix_predictions_image", "predictions")
