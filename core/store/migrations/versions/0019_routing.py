"""Routings, assignments, availability."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_TABLES = ("routings", "routing_versions", "routing_turns", "assignments", "member_availability")


def upgrade() -> None:
    """Add the tables."""
    _routings()
    _assignments()
    op.create_table(
        "member_availability",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("member_id", Name, nullable=False),
        sa.Column("availability", Json(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "member_id"),
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(
                f"CREATE POLICY organization ON {table} USING "
                "(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))"
            )


def _routings() -> None:
    op.create_table(
        "routings",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("title", Name, nullable=False),
        sa.Column("newest_version", sa.Integer(), nullable=False),
        sa.Column("published", Name, nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("routings_published", "routings", ["org_id", "published"], unique=True)
    op.create_table(
        "routing_versions",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("routing_id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("title", Name, nullable=False),
        sa.Column("source", Name, nullable=False),
        sa.Column("own_kinds", Json(), nullable=False),
        sa.Column("published_by", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "routing_id", "version"),
    )
    op.create_table(
        "routing_turns",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("routing_id", Name, nullable=False),
        sa.Column("rule_id", Name, nullable=False),
        sa.Column("turns", Json(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "routing_id", "rule_id"),
    )


def _assignments() -> None:
    op.create_table(
        "assignments",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("lead_id", Name, nullable=False),
        sa.Column("member_id", Name, nullable=False),
        sa.Column("routing_id", Name, nullable=False),
        sa.Column("routing_version", sa.Integer(), nullable=False),
        sa.Column("rule_id", Name, nullable=False),
        sa.Column("method", Name, nullable=False),
        sa.Column("skipped", Json(), nullable=False),
        sa.Column("skipped_rules", Json(), nullable=False),
        sa.Column("seen", Json(), nullable=False),
        sa.Column("excluded", Json(), nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("reroutes_left", sa.Integer(), nullable=False),
        sa.Column("response_due_at", Instant()),
        sa.Column("check_at", Instant()),
        sa.Column("previous_id", Name, nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("cause", Name, nullable=False),
        sa.Column("reason", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("assignments_lead", "assignments", ["org_id", "lead_id", "id"])
    op.create_index("assignments_member", "assignments", ["org_id", "member_id", "created_at"])
    waits = sa.text("check_at IS NOT NULL")
    op.create_index("assignments_due", "assignments", ["check_at"], sqlite_where=waits, postgresql_where=waits)


def downgrade() -> None:
    """Take them away."""
    for table in _TABLES:
        op.drop_table(table)
