"""Members' states, projects, limits of keys, identity providers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name
from core.store.postgresql import isolation_statements

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_TABLES = ("projects", "identity_providers")
_ADDED = {
    "organizations": (
        ("rev", sa.Integer(), "1"),
        ("cost_currency", Name, ""),
        ("require_default_approval_gate", sa.Boolean(), sa.false()),
    ),
    "members": (
        ("state", Name, "active"),
        ("rev", sa.Integer(), "1"),
        ("last_seen_at", Instant(), None),
        ("removed_at", Instant(), None),
        ("successor_id", Name, None),
    ),
    "api_keys": (
        ("limits", Json(), None),
        ("rev", sa.Integer(), "1"),
        ("previous_digest", Name, None),
        ("previous_expires_at", Instant(), None),
        ("agent_id", Name, ""),
        ("created_by", Name, ""),
        ("known_by", Json(), None),
    ),
    "workflows": (("project_id", Name, None),),
}


def _partial(name: str, table: str, columns: list[str], condition: str, *, unique: bool = False) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    """Add columns and tables; members and keys that are there stay what they are."""
    for table, columns in _ADDED.items():
        for name, kind, default in columns:
            op.add_column(table, sa.Column(name, kind, nullable=default is None, server_default=default))
    op.drop_index("members_email", "members")
    _partial("members_email", "members", ["org_id", "email"], "state = 'active'", unique=True)
    _partial("members_handing_over", "members", ["org_id", "id"], "successor_id IS NOT NULL")
    _partial("api_keys_previous_digest", "api_keys", ["previous_digest"], "previous_digest IS NOT NULL")
    op.create_index("api_keys_principal", "api_keys", ["org_id", "principal_id"])
    _partial("api_keys_agent", "api_keys", ["org_id", "agent_id"], "agent_id <> ''")
    _partial("workflows_project", "workflows", ["org_id", "project_id", "id"], "project_id IS NOT NULL")
    op.create_table(
        "projects",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("display_name", Name, nullable=False),
        sa.Column("description", Name, nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_table(
        "identity_providers",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("issuer", Name, nullable=False),
        sa.Column("audience", Name, nullable=False),
        sa.Column("jwks_uri", Name, nullable=False),
        sa.Column("email_claim", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id"),
    )
    op.create_index("identity_providers_audience", "identity_providers", ["issuer", "audience"], unique=True)
    if op.get_bind().dialect.name == "postgresql":
        for statement in isolation_statements(_TABLES):
            op.execute(statement)


def downgrade() -> None:
    """Take them away."""
    for table in _TABLES:
        op.drop_table(table)
    op.drop_index("workflows_project", "workflows")
    op.drop_index("api_keys_agent", "api_keys")
    op.drop_index("api_keys_principal", "api_keys")
    op.drop_index("api_keys_previous_digest", "api_keys")
    op.drop_index("members_handing_over", "members")
    op.drop_index("members_email", "members")
    op.execute("DELETE FROM members WHERE state <> 'active'")
    op.create_index("members_email", "members", ["org_id", "email"], unique=True)
    for table, columns in _ADDED.items():
        for name, _, _ in reversed(columns):
            op.drop_column(table, name)
