"""Triggers of every kind: who listens to what, schedules and pools, refused entries, how far an event has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLES = ("workflow_listeners", "workflow_schedules", "entry_refusals")


def _isolate(*tables: str) -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in tables:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY organization ON {table} USING "
            "(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))"
        )


def upgrade() -> None:
    """Create the tables; what listened to events goes on listening."""
    op.create_table(
        "workflow_listeners",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("event_name", Name, nullable=False),
        sa.Column("role", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "event_name", "role", "workflow_id", "version"),
    )
    op.create_index("workflow_listeners_workflow", "workflow_listeners", ["org_id", "workflow_id"])
    op.execute(
        "INSERT INTO workflow_listeners (org_id, event_name, role, workflow_id, version) "
        "SELECT org_id, event_name, 'trigger', workflow_id, version FROM workflow_triggers"
    )
    op.drop_table("workflow_triggers")
    op.create_table(
        "workflow_schedules",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("next_at", Instant(), nullable=False),
        sa.Column("state", Json(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "workflow_id", "position"),
    )
    op.create_index("workflow_schedules_due", "workflow_schedules", ["next_at"])
    op.create_table(
        "entry_refusals",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("contact_id", Name, nullable=False),
        sa.Column("reason", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("outcome", Name, nullable=False),
        sa.Column("message", Name, nullable=False),
        sa.Column("field", Name, nullable=False),
        sa.Column("inputs", Json(), nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "workflow_id", "contact_id", "reason"),
    )
    op.create_index("entry_refusals_age", "entry_refusals", ["at"])
    op.add_column("events", sa.Column("hops", sa.Integer(), nullable=False, server_default=sa.text("0")))
    _isolate(*_TABLES)


def downgrade() -> None:
    """Take it all away; only triggers of named events remain."""
    op.drop_column("events", "hops")
    op.create_table(
        "workflow_triggers",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("event_name", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "event_name", "workflow_id"),
    )
    op.create_index("workflow_triggers_workflow", "workflow_triggers", ["org_id", "workflow_id"])
    op.execute(
        "INSERT INTO workflow_triggers (org_id, event_name, workflow_id, version) "
        "SELECT org_id, event_name, workflow_id, version FROM workflow_listeners "
        "WHERE role = 'trigger' AND event_name NOT LIKE '$%'"
    )
    _isolate("workflow_triggers")
    for table in reversed(_TABLES):
        op.drop_table(table)
