"""Replays of deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of replays."""
    op.create_table(
        "replays",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("endpoint_id", Name, nullable=False),
        sa.Column("states", Json(), nullable=False),
        sa.Column("event_types", Json(), nullable=False),
        sa.Column("start_at", Instant()),
        sa.Column("end_at", Instant()),
        sa.Column("rate_per_second", sa.Float(), nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("total_count", sa.Integer(), nullable=False),
        sa.Column("done_count", sa.Integer(), nullable=False),
        sa.Column("cursor", Name, nullable=False),
        sa.Column("next_at", Instant(), nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("completed_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("replays_endpoint", "replays", ["org_id", "endpoint_id", "id"])
    running = sa.text("state = 'running'")
    op.create_index("replays_running", "replays", ["next_at"], sqlite_where=running, postgresql_where=running)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE replays ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE replays FORCE ROW LEVEL SECURITY")
        op.execute(
            "CREATE POLICY organization ON replays USING "
            "(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))"
        )


def downgrade() -> None:
    """Take it away."""
    op.drop_table("replays")
