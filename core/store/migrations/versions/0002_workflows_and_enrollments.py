"""Workflows, enrollments, traces, events, agents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "workflows",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("title", Name, nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("draft_source", Name, nullable=False),
        sa.Column("draft_document", Json(), nullable=False),
        sa.Column("draft_author", Name, nullable=False),
        sa.Column("draft_at", Instant(), nullable=False),
        sa.Column("draft_version", sa.Integer(), nullable=False),
        sa.Column("published_version", sa.Integer(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_table(
        "workflow_drafts",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("source", Name, nullable=False),
        sa.Column("document", Json(), nullable=False),
        sa.Column("author", Name, nullable=False),
        sa.Column("written_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "workflow_id", "rev"),
    )
    op.create_table(
        "workflow_versions",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", Json(), nullable=False),
        sa.Column("source", Name, nullable=False),
        sa.Column("own_kinds", Json(), nullable=False),
        sa.Column("published_by", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "workflow_id", "version"),
    )
    op.create_table(
        "workflow_triggers",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("event_name", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "event_name", "workflow_id"),
    )
    op.create_index("workflow_triggers_workflow", "workflow_triggers", ["org_id", "workflow_id"])
    op.create_table(
        "enrollments",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("contact_id", Name, nullable=False),
        sa.Column("key", Name, nullable=False),
        sa.Column("occurrence", sa.Integer(), nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("step_id", Name, nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("trace_count", sa.Integer(), nullable=False),
        sa.Column("due_at", Instant()),
        sa.Column("deadline", Instant()),
        sa.Column("wait_kind", Name),
        sa.Column("wait_subject", Name),
        sa.Column("wait_since", Instant()),
        sa.Column("data", Json(), nullable=False),
        sa.Column("end_reason", Name, nullable=False),
        sa.Column("entered_at", Instant(), nullable=False),
        sa.Column("moved_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id"),
        postgresql_with={"fillfactor": 90, "autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_cost_delay": 0},
    )
    op.create_index("enrollments_contact", "enrollments", ["contact_id", "org_id"])
    op.create_index(
        "enrollments_due",
        "enrollments",
        ["org_id", "due_at"],
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "enrollments_identity", "enrollments", ["workflow_id", "org_id", "contact_id", "key", "occurrence"], unique=True
    )
    op.create_index(
        "enrollments_waiting",
        "enrollments",
        ["org_id", "contact_id", "wait_kind", "wait_subject"],
        sqlite_where=sa.text("wait_kind IN ('event', 'delivery', 'approval')"),
        postgresql_where=sa.text("wait_kind IN ('event', 'delivery', 'approval')"),
    )
    op.create_table(
        "trace_entries",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("enrollment_id", Name, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("step_id", Name, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("outcome", Name, nullable=False),
        sa.Column("exit", Name, nullable=False),
        sa.Column("reason", Name, nullable=False),
        sa.Column("inputs", Json(), nullable=False),
        sa.Column("effects", Json(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "enrollment_id", "seq", "day"),
        postgresql_partition_by="RANGE (day)",
    )
    op.create_table(
        "sources",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("display_name", Name, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("position", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("sources_position", "sources", ["org_id", "position"], unique=True)
    op.create_table(
        "events",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("source_id", Name, nullable=False),
        sa.Column("event_type", Name, nullable=False),
        sa.Column("event_name", Name, nullable=False),
        sa.Column("fields", Json(), nullable=False),
        sa.Column("contact_id", Name),
        sa.Column("occurred_at", Instant(), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.Column("message_id", Name, nullable=False),
        sa.Column("identity_conflict", Json()),
        sa.Column("match_due_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id", "day"),
        postgresql_partition_by="RANGE (day)",
    )
    op.create_index("events_contact", "events", ["contact_id", "org_id", "id"])
    op.create_index(
        "events_unmatched",
        "events",
        ["org_id", "match_due_at", "id", "day"],
        sqlite_where=sa.text("match_due_at IS NOT NULL"),
        postgresql_where=sa.text("match_due_at IS NOT NULL"),
    )
    op.create_table(
        "event_dedup",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("source_id", Name, nullable=False),
        sa.Column("message_id", Name, nullable=False),
        sa.Column("event_id", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "source_id", "message_id"),
    )
    op.create_index("event_dedup_age", "event_dedup", ["created_at"])
    op.create_table(
        "agents",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("display_name", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_table(
        "executions",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("agent_id", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("enrollment_id", Name, nullable=False),
        sa.Column("contact_id", Name, nullable=False),
        sa.Column("input", Json(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("executions_agent", "executions", ["org_id", "agent_id", "id"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("executions")
    op.drop_table("agents")
    op.drop_table("event_dedup")
    op.drop_table("events")
    op.drop_table("sources")
    op.drop_table("trace_entries")
    op.drop_table("enrollments")
    op.drop_table("workflow_triggers")
    op.drop_table("workflow_versions")
    op.drop_table("workflow_drafts")
    op.drop_table("workflows")
