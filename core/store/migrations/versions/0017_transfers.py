"""Imports, duplicates, erasures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_WITH_VALUES = "forgotten_at IS NULL AND state NOT IN ('checking', 'running')"
_TABLES = ("imports", "import_rows", "duplicate_pairs", "duplicate_keys", "duplicate_searches", "erasures")


def upgrade() -> None:
    """Add the tables; duplicates among what is there are found by and by."""
    _imports()
    _duplicates()
    _erasures()
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(
                f"CREATE POLICY organization ON {table} USING "
                "(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))"
            )


def _index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _imports() -> None:
    op.create_table(
        "imports",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("state_since", Instant(), nullable=False),
        sa.Column("record_type", Name, nullable=False),
        sa.Column("match_by", Name, nullable=False),
        sa.Column("system", Name, nullable=False),
        sa.Column("columns", Json(), nullable=False),
        sa.Column("members", Json(), nullable=False),
        sa.Column("triggers", Name, nullable=False),
        sa.Column("skip_bad_rows", sa.Boolean(), nullable=False),
        sa.Column("starts", sa.Boolean(), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("done_count", sa.Integer(), nullable=False),
        sa.Column("created_count", sa.Integer(), nullable=False),
        sa.Column("updated_count", sa.Integer(), nullable=False),
        sa.Column("unchanged_count", sa.Integer(), nullable=False),
        sa.Column("bad_count", sa.Integer(), nullable=False),
        sa.Column("error", Name, nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("actor_kind", Name, nullable=False),
        sa.Column("agent_id", Name, nullable=False, server_default=""),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant()),
        sa.Column("forgotten_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    _index("imports_under_way", "imports", ["created_at"], "state IN ('checking', 'running')")
    _index("imports_with_values", "imports", ["state_since"], _WITH_VALUES)
    op.create_table(
        "import_rows",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("import_id", Name, nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("record_type", Name, nullable=False),
        sa.Column("source_id", Name, nullable=False),
        sa.Column("key", Name, nullable=False),
        sa.Column("outcome", Name, nullable=False),
        sa.Column("record_id", Name, nullable=False),
        sa.Column("faults", Json(), nullable=False),
        sa.Column("said", Json()),
        sa.PrimaryKeyConstraint("org_id", "import_id", "row"),
    )
    op.create_index("import_rows_source", "import_rows", ["org_id", "import_id", "source_id"])
    op.create_index("import_rows_key", "import_rows", ["org_id", "import_id", "key"])
    op.create_index("import_rows_outcome", "import_rows", ["org_id", "import_id", "outcome", "row"])


def _duplicates() -> None:
    op.create_table(
        "duplicate_pairs",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("record_type", Name, nullable=False),
        sa.Column("first_id", Name, nullable=False),
        sa.Column("second_id", Name, nullable=False),
        # In thousandths.
        sa.Column("likeness", sa.Integer(), nullable=False),
        sa.Column("reasons", Json(), nullable=False),
        sa.Column("dismissed_by", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("duplicate_pairs_two", "duplicate_pairs", ["org_id", "first_id", "second_id"], unique=True)
    op.create_index("duplicate_pairs_second", "duplicate_pairs", ["org_id", "second_id"])
    op.create_index("duplicate_pairs_likeness", "duplicate_pairs", ["org_id", "record_type", "likeness", "id"])
    op.create_table(
        "duplicate_keys",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("record_type", Name, nullable=False),
        sa.Column("key", Name, nullable=False),
        sa.Column("record_id", Name, nullable=False),
        sa.PrimaryKeyConstraint("org_id", "record_type", "key", "record_id"),
    )
    op.create_index("duplicate_keys_record", "duplicate_keys", ["org_id", "record_id"])
    op.create_table(
        "duplicate_searches",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("change_id", Name, nullable=False),
        sa.PrimaryKeyConstraint("org_id"),
    )


def _erasures() -> None:
    op.create_table(
        "erasures",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("record_id", Name, nullable=False),
        sa.Column("reason", Name, nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("record_count", sa.Integer(), nullable=False),
        sa.Column("event_count", sa.Integer(), nullable=False),
        sa.Column("message_count", sa.Integer(), nullable=False),
        # What is still looked for, and where; nothing once it is complete.
        sa.Column("search", Json()),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("erasures_record", "erasures", ["org_id", "record_id"], unique=True)
    _index("erasures_under_way", "erasures", ["created_at"], "search IS NOT NULL")


def downgrade() -> None:
    """Take them away."""
    for table in _TABLES:
        op.drop_table(table)
