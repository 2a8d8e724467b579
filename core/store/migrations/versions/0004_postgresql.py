"""What only PostgreSQL has: row-level security on every table, and a default partition for each history."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PARTITIONED = ("trace_entries", "messages", "deliveries", "delivery_attempts", "events")


_TABLES = (
    "agents api_keys approvals deliveries delivery_attempts endpoints enrollments event_dedup events executions "
    "idempotency_keys members messages organizations plans record_changes record_identifiers records routing_cursors "
    "scoring_model_versions scoring_models sources trace_entries workflow_drafts workflow_triggers workflow_versions "
    "workflows"
).split()


def upgrade() -> None:
    """Hide every row of another organization, also from the tables' owner; catch rows of days without a partition."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY organization ON {table} USING "
            "(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))"
        )
    for table in _PARTITIONED:
        op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")


def downgrade() -> None:
    """Take both away."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in _PARTITIONED:
        op.execute(f"DROP TABLE {table}_default")
    for table in _TABLES:
        op.execute(f"DROP POLICY organization ON {table}")
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
