"""Event types of organizations' own, in versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_TABLES = ("event_types", "event_type_versions")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "event_types",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("description", Name, nullable=False),
        sa.Column("schema", Json(), nullable=False),
        sa.Column("breaking_changes", Json(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "name"),
    )
    op.create_table(
        "event_type_versions",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("description", Name, nullable=False),
        sa.Column("schema", Json(), nullable=False),
        sa.Column("breaking_changes", Json(), nullable=False),
        sa.Column("created_by", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "name", "version"),
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
    for table in reversed(_TABLES):
        op.drop_table(table)
