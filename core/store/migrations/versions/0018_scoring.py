"""Which version of a scoring model is in use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; 0 stands for the newest, which is the one in use of every model there is."""
    column = sa.Column("active_version", sa.Integer(), nullable=False, server_default=sa.text("0"))
    op.add_column("scoring_models", column)


def downgrade() -> None:
    """Take the column back: the newest version is the one in use again."""
    op.drop_column("scoring_models", "active_version")
