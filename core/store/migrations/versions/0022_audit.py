"""The audit log: entries, heads of their chains, and triggers that let nobody change or remove what is sealed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Name

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_TABLES = ("audit_entries", "audit_heads")
_TEXTS = (
    *("principal_id", "principal_kind", "on_behalf_of", "method", "surface", "request_id", "subject_id"),
    *("summary", "reason", "request_digest", "before_digest", "after_digest"),
)
_FIXED = ("org_id", "id", "day", *_TEXTS, "create_time")
# Only what the anchor has passed may go, and nothing but sealing may touch what is there.
_KEPT = (
    "OLD.sequence IS NULL OR NOT EXISTS (SELECT 1 FROM audit_heads AS h "
    "WHERE h.org_id = OLD.org_id AND h.anchor_sequence >= OLD.sequence)"
)
_SQLITE = (
    "CREATE TRIGGER audit_entries_stay BEFORE DELETE ON audit_entries WHEN {kept} "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END",
    "CREATE TRIGGER audit_entries_fixed BEFORE UPDATE ON audit_entries "
    "WHEN OLD.sequence IS NOT NULL OR NEW.sequence IS NULL OR {changed} "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END",
)
_POSTGRESQL = (
    """
    CREATE FUNCTION audit_entries_stay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            RAISE EXCEPTION 'the audit log is append-only';
        ELSIF TG_OP = 'DELETE' THEN
            IF {kept} THEN RAISE EXCEPTION 'the audit log is append-only'; END IF;
            RETURN OLD;
        ELSIF OLD.sequence IS NOT NULL OR NEW.sequence IS NULL OR {changed} THEN
            RAISE EXCEPTION 'the audit log is append-only';
        END IF;
        RETURN NEW;
    END $$
    """,
    "CREATE TRIGGER audit_entries_stay BEFORE UPDATE OR DELETE ON audit_entries "
    "FOR EACH ROW EXECUTE FUNCTION audit_entries_stay()",
    "CREATE TRIGGER audit_entries_all_stay BEFORE TRUNCATE ON audit_entries "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_entries_stay()",
)


def upgrade() -> None:
    """Add the tables and their triggers."""
    op.create_table(
        "audit_entries",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger()),
        sa.Column("previous_hash", Name, nullable=False),
        sa.Column("hash", Name, nullable=False),
        *(sa.Column(name, Name, nullable=False) for name in _TEXTS),
        sa.Column("create_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id", "day"),
        postgresql_partition_by="RANGE (day)",
    )
    op.create_index("audit_entries_sequence", "audit_entries", ["org_id", "sequence"])
    op.create_index("audit_entries_subject", "audit_entries", ["org_id", "subject_id", "id"])
    unsealed = sa.text("sequence IS NULL")
    op.create_index(
        "audit_entries_unsealed",
        "audit_entries",
        ["org_id", "id"],
        sqlite_where=unsealed,
        postgresql_where=unsealed,
    )
    op.create_table(
        "audit_heads",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", Name, nullable=False),
        sa.Column("sealed_at", Instant(), nullable=False),
        sa.Column("anchor_sequence", sa.BigInteger(), nullable=False),
        sa.Column("anchor_hash", Name, nullable=False),
        sa.PrimaryKeyConstraint("org_id"),
    )
    postgresql = op.get_bind().dialect.name == "postgresql"
    differs = "IS DISTINCT FROM" if postgresql else "IS NOT"
    changed = " OR ".join(f"NEW.{name} {differs} OLD.{name}" for name in _FIXED)
    for statement in _POSTGRESQL if postgresql else _SQLITE:
        op.execute(statement.format(kept=_KEPT, changed=changed))
    if postgresql:
        op.execute("CREATE TABLE audit_entries_default PARTITION OF audit_entries DEFAULT")
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
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_entries_stay()")
