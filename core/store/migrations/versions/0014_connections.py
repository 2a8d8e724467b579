"""Connections."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; until there is a connection, other channels are handed over as before."""
    op.create_table(
        "connections",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("display_name", Name, nullable=False),
        sa.Column("channel", Name, nullable=False),
        sa.Column("call", Json(), nullable=False),
        sa.Column("auth", Json(), nullable=False),
        sa.Column("result", Json(), nullable=False),
        sa.Column("rate_per_second", sa.Float(), nullable=False),
        sa.Column("daily_limit", sa.Integer(), nullable=False),
        sa.Column("max_in_flight", sa.Integer(), nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("rate_until", Instant()),
        sa.Column("queued_until", Instant()),
        sa.Column("gate_until", Instant()),
        sa.Column("day", Name, nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("calls", Json(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    active = sa.text("state = 'active'")
    op.create_index(
        "connections_channel",
        "connections",
        ["org_id", "channel"],
        unique=True,
        sqlite_where=active,
        postgresql_where=active,
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE connections ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE connections FORCE ROW LEVEL SECURITY")
        op.execute(
            "CREATE POLICY organization ON connections USING "
            "(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))"
        )


def downgrade() -> None:
    """Take it away."""
    op.drop_table("connections")
