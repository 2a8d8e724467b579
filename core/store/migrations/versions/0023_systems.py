"""Systems of record: connections of a second kind, sealed credentials, syncs and what links both sides."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name
from core.store.postgresql import isolation_statements

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_TABLES = ("credentials", "syncs", "sync_items", "sync_links")


def upgrade() -> None:
    """Add the tables; the connections that there are carry channels."""
    op.add_column("connections", sa.Column("kind", Name, nullable=False, server_default="channel"))
    op.add_column("connections", sa.Column("system", Json(), nullable=False, server_default="{}"))
    op.add_column("connections", sa.Column("marks", Json(), nullable=False, server_default="{}"))
    op.add_column("connections", sa.Column("synced_at", Instant()))
    op.add_column("connections", sa.Column("pull_at", Instant()))
    op.add_column("connections", sa.Column("owner", Json()))
    op.drop_index("connections_channel", "connections")
    active = sa.text("state = 'active' AND kind = 'channel'")
    op.create_index(
        "connections_channel",
        "connections",
        ["org_id", "channel"],
        unique=True,
        sqlite_where=active,
        postgresql_where=active,
    )
    op.create_table(
        "credentials",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("connection_id", Name, nullable=False),
        sa.Column("key_id", Name, nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "connection_id"),
    )
    op.create_index("credentials_key", "credentials", ["key_id"])
    op.create_table(
        "syncs",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("connection_id", Name, nullable=False),
        sa.Column("direction", Name, nullable=False),
        sa.Column("types", Json(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("preview", sa.Boolean(), nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("cursor", Name, nullable=False),
        sa.Column("high", Instant()),
        sa.Column("done_count", sa.Integer(), nullable=False),
        sa.Column("pulled_count", sa.Integer(), nullable=False),
        sa.Column("pushed_count", sa.Integer(), nullable=False),
        sa.Column("conflict_count", sa.Integer(), nullable=False),
        sa.Column("failed_count", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("wait_reason", Name, nullable=False),
        sa.Column("next_at", Instant(), nullable=False),
        sa.Column("lease_token", Name, nullable=False),
        sa.Column("lease_until", Instant()),
        sa.Column("error", Name, nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("spender", Json()),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    still = sa.text("state IN ('running', 'waiting')")
    op.create_index(
        "syncs_open", "syncs", ["org_id", "connection_id"], unique=True, sqlite_where=still, postgresql_where=still
    )
    op.create_index("syncs_due", "syncs", ["next_at"], sqlite_where=still, postgresql_where=still)
    op.create_table(
        "sync_items",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("sync_id", Name, nullable=False),
        sa.Column("record_id", Name, nullable=False),
        sa.Column("external_id", Name, nullable=False),
        sa.Column("type", Name, nullable=False),
        sa.Column("outcome", Name, nullable=False),
        sa.Column("conflicts", Json(), nullable=False),
        sa.Column("error", Name, nullable=False),
        sa.Column("hint", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("sync_items_sync", "sync_items", ["org_id", "sync_id", "id"])
    op.create_table(
        "sync_links",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("connection_id", Name, nullable=False),
        sa.Column("record_id", Name, nullable=False),
        sa.Column("type", Name, nullable=False),
        sa.Column("external_id", Name, nullable=False),
        sa.Column("base", Json(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "connection_id", "record_id"),
    )
    op.create_index(
        "sync_links_external", "sync_links", ["external_id", "org_id", "connection_id", "type"], unique=True
    )
    if op.get_bind().dialect.name == "postgresql":
        for statement in isolation_statements(_TABLES):
            op.execute(statement)


def downgrade() -> None:
    """Take them away; connections of the second kind go too."""
    for table in reversed(_TABLES):
        op.drop_table(table)
    op.drop_index("connections_channel", "connections")
    op.execute("DELETE FROM connections WHERE kind <> 'channel'")
    active = sa.text("state = 'active'")
    op.create_index(
        "connections_channel",
        "connections",
        ["org_id", "channel"],
        unique=True,
        sqlite_where=active,
        postgresql_where=active,
    )
    for column in ("owner", "pull_at", "synced_at", "marks", "system", "kind"):
        op.drop_column("connections", column)
