"""Organizations, keys, records, idempotency."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "organizations",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("display_name", Name, nullable=False),
        sa.Column("timezone", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id"),
    )
    op.create_table(
        "members",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("email", Name, nullable=False),
        sa.Column("display_name", Name, nullable=False),
        sa.Column("role", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("members_email", "members", ["org_id", "email"], unique=True)
    op.create_table(
        "api_keys",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("prefix", Name, nullable=False),
        sa.Column("display_name", Name, nullable=False),
        sa.Column("principal_kind", Name, nullable=False),
        sa.Column("principal_id", Name, nullable=False),
        sa.Column("scopes", Json(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant()),
        sa.Column("revoked_at", Instant()),
        sa.Column("last_used_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("api_keys_digest", "api_keys", ["digest"])
    op.create_table(
        "idempotency_keys",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("principal_id", Name, nullable=False),
        sa.Column("key", Name, nullable=False),
        sa.Column("method", Name, nullable=False),
        sa.Column("request_hash", Name, nullable=False),
        sa.Column("call_id", Name, nullable=False),
        sa.Column("reply", sa.LargeBinary()),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "principal_id", "key"),
    )
    op.create_index("idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "records",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("type", Name, nullable=False),
        sa.Column("fields", Json(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("contact_id", Name),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.Column("deleted_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index(
        "records_contact",
        "records",
        ["org_id", "contact_id", "id"],
        sqlite_where=sa.text("contact_id IS NOT NULL"),
        postgresql_where=sa.text("contact_id IS NOT NULL"),
    )
    op.create_index("records_type", "records", ["org_id", "type", "id"])
    op.create_table(
        "record_identifiers",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("record_type", Name, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("value", Name, nullable=False),
        sa.Column("record_id", Name, nullable=False),
        sa.PrimaryKeyConstraint("org_id", "record_type", "kind", "value"),
    )
    op.create_index("record_identifiers_record", "record_identifiers", ["org_id", "record_id"])
    op.create_table(
        "record_changes",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("record_id", Name, nullable=False),
        sa.Column("field", Name, nullable=False),
        sa.Column("old_value", Json()),
        sa.Column("new_value", Json()),
        sa.Column("actor", Name, nullable=False),
        sa.Column("cause", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("record_changes_record", "record_changes", ["org_id", "record_id", "id"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("record_changes")
    op.drop_table("record_identifiers")
    op.drop_table("records")
    op.drop_table("idempotency_keys")
    op.drop_table("api_keys")
    op.drop_table("members")
    op.drop_table("organizations")
