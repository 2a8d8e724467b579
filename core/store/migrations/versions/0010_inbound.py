"""Inbound sources: their URLs, verifiers, mappings and schemas; and quarantine for what does not fit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TABLES = ("inbound_urls", "quarantine")
_COLUMNS = {name: Json() for name in ("verifier", "mapping", "schema")} | {
    name: Instant() for name in ("last_event_at", "updated_at")
}


def upgrade() -> None:
    """Add columns and tables; sources that are there stay as they were."""
    for name, kind in _COLUMNS.items():
        op.add_column("sources", sa.Column(name, kind))
    op.add_column("sources", sa.Column("rev", sa.Integer(), nullable=False, server_default="1"))
    op.create_table(
        "inbound_urls",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("source_id", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "digest"),
    )
    op.create_index("inbound_urls_source", "inbound_urls", ["org_id", "source_id"])
    op.create_index("inbound_urls_digest", "inbound_urls", ["digest"])
    op.create_table(
        "quarantine",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("source_id", Name, nullable=False),
        sa.Column("form", Name, nullable=False),
        sa.Column("reason", Name, nullable=False),
        sa.Column("field", Name, nullable=False),
        sa.Column("message", Name, nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("body_length", sa.Integer(), nullable=False),
        sa.Column("headers", Json(), nullable=False),
        sa.Column("query", Json(), nullable=False),
        sa.Column("message_id", Name, nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.Column("event_id", Name, nullable=False, server_default=""),
        sa.Column("ended_at", Instant()),
        sa.Column("ended_by", Name, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    waits = sa.text("state = 'waiting'")
    op.create_index(
        "quarantine_waiting", "quarantine", ["org_id", "source_id", "id"], sqlite_where=waits, postgresql_where=waits
    )
    known = sa.text("state = 'waiting' AND message_id <> ''")
    op.create_index(
        "quarantine_message",
        "quarantine",
        ["org_id", "source_id", "message_id"],
        unique=True,
        sqlite_where=known,
        postgresql_where=known,
    )
    op.create_index("quarantine_age", "quarantine", ["received_at"])
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
    for name in ("rev", *_COLUMNS):
        op.drop_column("sources", name)
