"""Webhooks, qualification, approvals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "endpoints",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("url", Name, nullable=False),
        sa.Column("description", Name, nullable=False),
        sa.Column("event_types", Json(), nullable=False),
        sa.Column("retry_preset", Name, nullable=False),
        sa.Column("secrets", Json(), nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("disabled_reason", Name, nullable=False),
        sa.Column("failing_since", Instant()),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("endpoints_state", "endpoints", ["state", "org_id", "id"])
    op.create_table(
        "messages",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("event_type", Name, nullable=False),
        sa.Column("payload", Name, nullable=False),
        sa.Column("enrollment_id", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id", "day"),
        postgresql_partition_by="RANGE (day)",
    )
    op.create_table(
        "deliveries",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("message_id", Name, nullable=False),
        sa.Column("endpoint_id", Name, nullable=False),
        sa.Column("event_type", Name, nullable=False),
        sa.Column("enrollment_id", Name, nullable=False),
        sa.Column("awaited", sa.Boolean(), nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("attempts_before", sa.Integer(), nullable=False),
        sa.Column("due_at", Instant()),
        sa.Column("lease_until", Instant()),
        sa.Column("lease_token", Name),
        sa.Column("last_outcome", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id", "day"),
        postgresql_partition_by="RANGE (day)",
    )
    op.create_index(
        "deliveries_due",
        "deliveries",
        ["org_id", "endpoint_id", "due_at"],
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index("deliveries_endpoint", "deliveries", ["org_id", "endpoint_id", "id"])
    op.create_index(
        "deliveries_enrollment",
        "deliveries",
        ["org_id", "enrollment_id", "id"],
        sqlite_where=sa.text("enrollment_id <> ''"),
        postgresql_where=sa.text("enrollment_id <> ''"),
    )
    op.create_index("deliveries_message", "deliveries", ["org_id", "message_id"])
    op.create_table(
        "delivery_attempts",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("delivery_id", Name, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("started_at", Instant(), nullable=False),
        sa.Column("duration_us", sa.Integer(), nullable=False),
        sa.Column("outcome", Name, nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=False),
        sa.Column("response", Name, nullable=False),
        sa.Column("error", Name, nullable=False),
        sa.PrimaryKeyConstraint("org_id", "delivery_id", "number", "day"),
        postgresql_partition_by="RANGE (day)",
    )
    op.create_table(
        "scoring_models",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("title", Name, nullable=False),
        sa.Column("newest_version", sa.Integer(), nullable=False),
        sa.Column("published", Name, nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("scoring_models_published", "scoring_models", ["org_id", "published"], unique=True)
    op.create_table(
        "scoring_model_versions",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("model_id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("title", Name, nullable=False),
        sa.Column("source", Name, nullable=False),
        sa.Column("document", Json(), nullable=False),
        sa.Column("own_kinds", Json(), nullable=False),
        sa.Column("published_by", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "model_id", "version"),
    )
    op.create_table(
        "plans",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("hash", Name, nullable=False),
        sa.Column("body", Json(), nullable=False),
        sa.Column("created_by", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("applied_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_table(
        "routing_cursors",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("model_id", Name, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "model_id"),
    )
    op.create_table(
        "approvals",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("subject_kind", Name, nullable=False),
        sa.Column("subject_id", Name, nullable=False),
        sa.Column("title", Name, nullable=False),
        sa.Column("details", Json(), nullable=False),
        sa.Column("subject_hash", Name, nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("requester_id", Name, nullable=False),
        sa.Column("decider_id", Name, nullable=False),
        sa.Column("comment", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("decided_at", Instant()),
        sa.Column("expires_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index(
        "approvals_expiring",
        "approvals",
        ["expires_at"],
        sqlite_where=sa.text("state = 'pending' AND expires_at IS NOT NULL"),
        postgresql_where=sa.text("state = 'pending' AND expires_at IS NOT NULL"),
    )
    op.create_index("approvals_state", "approvals", ["state", "org_id", "id"])
    op.create_index("approvals_subject", "approvals", ["subject_id", "org_id", "subject_kind"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("approvals")
    op.drop_table("routing_cursors")
    op.drop_table("plans")
    op.drop_table("scoring_model_versions")
    op.drop_table("scoring_models")
    op.drop_table("delivery_attempts")
    op.drop_table("deliveries")
    op.drop_table("messages")
    op.drop_table("endpoints")
