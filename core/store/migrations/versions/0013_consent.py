"""Consent with its history, suppressed addresses, secrets of unsubscribe links; what other systems call messages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Name

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_TABLES = ("consents", "consent_changes", "unsubscribe_secrets", "suppressions")


def upgrade() -> None:
    """Add the tables; nobody's consent is known yet, so all stays as the contacts' field `unsubscribed` says."""
    op.add_column("outgoing_messages", sa.Column("provider_id", Name, nullable=False, server_default=""))
    elsewhere = sa.text("provider_id <> ''")
    op.create_index(
        "outgoing_provider",
        "outgoing_messages",
        ["org_id", "provider_id"],
        sqlite_where=elsewhere,
        postgresql_where=elsewhere,
    )
    op.create_table(
        "consents",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("contact_id", Name, nullable=False),
        sa.Column("channel", Name, nullable=False),
        sa.Column("purpose", Name, nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("reason", Name, nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "contact_id", "channel", "purpose"),
    )
    op.create_table(
        "consent_changes",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("contact_id", Name, nullable=False),
        sa.Column("channel", Name, nullable=False),
        sa.Column("purpose", Name, nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("reason", Name, nullable=False),
        sa.Column("cause", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("consent_changes_contact", "consent_changes", ["org_id", "contact_id", "id"])
    op.create_table(
        "unsubscribe_secrets",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("secret", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id"),
    )
    op.create_table(
        "suppressions",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("key", Name, nullable=False),
        sa.Column("channel", Name, nullable=False),
        sa.Column("address", Name, nullable=False),
        sa.Column("purpose", Name, nullable=False),
        sa.Column("reason", Name, nullable=False),
        sa.Column("cause", Name, nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("contact_id", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("lifted_at", Instant()),
        sa.Column("lifted_by", Name, nullable=False),
        sa.Column("lift_reason", Name, nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    standing = sa.text("lifted_at IS NULL")
    op.create_index(
        "suppressions_standing",
        "suppressions",
        ["org_id", "key", "purpose", "reason"],
        unique=True,
        sqlite_where=standing,
        postgresql_where=standing,
    )
    op.create_index("suppressions_contact", "suppressions", ["contact_id", "org_id"])
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
    op.drop_index("outgoing_provider", "outgoing_messages")
    op.drop_column("outgoing_messages", "provider_id")
