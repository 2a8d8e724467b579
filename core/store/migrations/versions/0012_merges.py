"""Merges, what they moved, and conflicts of identity."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TABLES = ("merges", "merge_moves", "identity_conflicts")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "merges",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("record_type", Name, nullable=False),
        sa.Column("kept_id", Name, nullable=False),
        sa.Column("merged_id", Name, nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("cause", Name, nullable=False),
        sa.Column("filled_fields", Json(), nullable=False),
        sa.Column("differing_fields", Json(), nullable=False),
        sa.Column("moved_counts", Json(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("undone_at", Instant()),
        sa.Column("undone_by", Name, nullable=False),
        sa.Column("conflicts", Json(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("merges_kept", "merges", ["org_id", "kept_id", "id"])
    op.create_index("merges_merged", "merges", ["org_id", "merged_id", "id"])
    standing = sa.text("undone_at IS NULL")
    op.create_index(
        "merges_standing",
        "merges",
        ["org_id", "merged_id"],
        unique=True,
        sqlite_where=standing,
        postgresql_where=standing,
    )
    op.create_table(
        "merge_moves",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("merge_id", Name, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("action", Name, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("place", Name, nullable=False),
        sa.Column("row_key", Json(), nullable=False),
        sa.Column("before", Json(), nullable=False),
        sa.Column("after", Json(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "merge_id", "number"),
    )
    op.create_table(
        "identity_conflicts",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("record_type", Name, nullable=False),
        sa.Column("cause", Name, nullable=False),
        sa.Column("chosen_id", Name, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("value", Name, nullable=False),
        sa.Column("other_id", Name, nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.Column("seen_count", sa.Integer(), nullable=False),
        sa.Column("merge_id", Name, nullable=False),
        sa.Column("resolved_by", Name, nullable=False),
        sa.Column("resolved_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index(
        "identity_conflicts_pair",
        "identity_conflicts",
        ["org_id", "chosen_id", "other_id", "kind", "value"],
        unique=True,
    )
    op.create_index("identity_conflicts_other", "identity_conflicts", ["org_id", "other_id", "chosen_id"])
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
