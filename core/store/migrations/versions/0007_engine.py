"""Pausing, correlated waits, migration between versions, statistics and dead letters; contacts by company."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Name

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TABLES = ("step_outcomes", "step_statistics", "dead_letters")


def upgrade() -> None:
    """Add columns and tables; what waits already keeps its place."""
    op.add_column("enrollments", sa.Column("parked", Name))
    op.add_column("enrollments", sa.Column("wait_key", Name))
    op.execute("UPDATE enrollments SET deadline = due_at WHERE wait_kind IS NULL OR wait_kind <> 'event'")
    op.execute("UPDATE enrollments SET wait_key = contact_id WHERE wait_kind = 'event'")
    op.drop_index("enrollments_waiting", "enrollments")
    op.create_index(
        "enrollments_waiting",
        "enrollments",
        ["org_id", "wait_key"],
        sqlite_where=sa.text("wait_kind = 'event'"),
        postgresql_where=sa.text("wait_kind = 'event'"),
    )
    op.create_index(
        "enrollments_parked",
        "enrollments",
        ["org_id", "workflow_id"],
        sqlite_where=sa.text("parked = 'held'"),
        postgresql_where=sa.text("parked = 'held'"),
    )
    op.create_index(
        "enrollments_running",
        "enrollments",
        ["org_id", "workflow_id", "id"],
        sqlite_where=sa.text("state IN ('active', 'awaiting_approval')"),
        postgresql_where=sa.text("state IN ('active', 'awaiting_approval')"),
    )
    op.add_column("workflows", sa.Column("paused_at", Instant()))
    op.add_column("workflows", sa.Column("resumed_at", Instant()))
    op.add_column("workflows", sa.Column("pause_reason", Name, nullable=False, server_default=""))
    op.create_index(
        "workflows_paused",
        "workflows",
        ["org_id", "id"],
        sqlite_where=sa.text("state = 'paused'"),
        postgresql_where=sa.text("state = 'paused'"),
    )
    op.add_column("records", sa.Column("company_id", Name))
    op.execute(
        "UPDATE records SET company_id = fields ->> 'company_id' "
        "WHERE type = 'contact' AND fields ->> 'company_id' IS NOT NULL"
    )
    op.create_index(
        "records_company",
        "records",
        ["org_id", "company_id", "id"],
        sqlite_where=sa.text("company_id IS NOT NULL"),
        postgresql_where=sa.text("company_id IS NOT NULL"),
    )
    parked = sa.text("state IN ('pending', 'sending') AND due_at IS NULL")
    op.create_index(
        "outgoing_parked",
        "outgoing_messages",
        ["org_id", "workflow_id"],
        sqlite_where=parked,
        postgresql_where=parked,
    )
    op.create_table(
        "step_outcomes",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("step_id", Name, nullable=False),
        sa.Column("outcome", Name, nullable=False),
        sa.Column("exit", Name, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("stood", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("step_outcomes_workflow", "step_outcomes", ["org_id", "workflow_id", "id"])
    op.create_table(
        "step_statistics",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("step_id", Name, nullable=False),
        sa.Column("outcome", Name, nullable=False),
        sa.Column("exit", Name, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("stood", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "workflow_id", "version", "step_id", "outcome", "exit"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("enrollment_id", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("contact_id", Name, nullable=False),
        sa.Column("step_id", Name, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("failure", Name, nullable=False),
        sa.Column("reason", Name, nullable=False),
        sa.Column("message_id", Name, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("redriven_at", Instant()),
        sa.Column("redriven_by", Name, nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("dead_letters_enrollment", "dead_letters", ["org_id", "enrollment_id"])
    op.create_index("dead_letters_workflow", "dead_letters", ["org_id", "workflow_id", "state", "id"])
    # What stands where is counted from now on; the rest begins with what there is.
    op.execute(
        "INSERT INTO step_statistics (org_id, workflow_id, version, step_id, outcome, exit, count, stood) "
        "SELECT org_id, workflow_id, version, '', 'state', state, count(*), 0 FROM enrollments "
        "GROUP BY org_id, workflow_id, version, state"
    )
    op.execute(
        "INSERT INTO step_statistics (org_id, workflow_id, version, step_id, outcome, exit, count, stood) "
        "SELECT org_id, workflow_id, version, step_id, 'standing', '', count(*), 0 FROM enrollments "
        "WHERE state IN ('active', 'awaiting_approval') GROUP BY org_id, workflow_id, version, step_id"
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(
                f"CREATE POLICY organization ON {table} USING "
                "(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))"
            )


def downgrade() -> None:
    """Take them away."""
    for table in _TABLES:
        op.drop_table(table)
    op.drop_index("outgoing_parked", "outgoing_messages")
    op.drop_index("records_company", "records")
    op.drop_column("records", "company_id")
    op.drop_index("workflows_paused", "workflows")
    op.drop_column("workflows", "pause_reason")
    op.drop_column("workflows", "resumed_at")
    op.drop_column("workflows", "paused_at")
    op.drop_index("enrollments_running", "enrollments")
    op.drop_index("enrollments_parked", "enrollments")
    op.drop_index("enrollments_waiting", "enrollments")
    op.create_index(
        "enrollments_waiting",
        "enrollments",
        ["org_id", "contact_id", "wait_kind", "wait_subject"],
        sqlite_where=sa.text("wait_kind IN ('event', 'delivery', 'approval')"),
        postgresql_where=sa.text("wait_kind IN ('event', 'delivery', 'approval')"),
    )
    op.drop_column("enrollments", "wait_key")
    op.drop_column("enrollments", "parked")
