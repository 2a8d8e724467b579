"""Messages to contacts, lists, work for agents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = ("agent_tasks", "list_members", "outgoing_messages")


def upgrade() -> None:
    """Create the tables, and on PostgreSQL hide the rows of other organizations."""
    op.create_table(
        "list_members",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("list_name", Name, nullable=False),
        sa.Column("contact_id", Name, nullable=False),
        sa.Column("added_at", Instant(), nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.PrimaryKeyConstraint("org_id", "list_name", "contact_id"),
    )
    op.create_index("list_members_contact", "list_members", ["org_id", "contact_id"])
    op.create_table(
        "agent_tasks",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("enrollment_id", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("step_id", Name, nullable=False),
        sa.Column("contact_id", Name, nullable=False),
        sa.Column("title", Name, nullable=False),
        sa.Column("instructions", Name, nullable=False),
        sa.Column("input", Json(), nullable=False),
        sa.Column("output_schema", Json(), nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("claimed_by", Name, nullable=False),
        sa.Column("claim_expires_at", Instant()),
        sa.Column("output", Json()),
        sa.Column("answered_by", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant()),
        sa.Column("answered_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("agent_tasks_state", "agent_tasks", ["state", "org_id", "id"])
    op.create_index("agent_tasks_enrollment", "agent_tasks", ["enrollment_id", "org_id", "id"])
    in_work = sa.text("state IN ('open', 'claimed') AND expires_at IS NOT NULL")
    op.create_index(
        "agent_tasks_expiring", "agent_tasks", ["expires_at"], sqlite_where=in_work, postgresql_where=in_work
    )
    op.create_table(
        "outgoing_messages",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("enrollment_id", Name, nullable=False),
        sa.Column("workflow_id", Name, nullable=False),
        sa.Column("step_id", Name, nullable=False),
        sa.Column("contact_id", Name, nullable=False),
        sa.Column("channel", Name, nullable=False),
        sa.Column("purpose", Name, nullable=False),
        sa.Column("recipient", Name, nullable=False),
        sa.Column("subject", Name, nullable=False),
        sa.Column("text", Name, nullable=False),
        sa.Column("html", Name, nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("awaited", sa.Boolean(), nullable=False),
        sa.Column("terms", Json(), nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", Instant()),
        sa.Column("lease_token", Name),
        sa.Column("outcome", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("ended_at", Instant()),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    under_way = sa.text("state IN ('pending', 'sending')")
    op.create_index(
        "outgoing_due", "outgoing_messages", ["org_id", "due_at"], sqlite_where=under_way, postgresql_where=under_way
    )
    op.create_index("outgoing_contact", "outgoing_messages", ["contact_id", "org_id", "created_at"])
    op.create_index("outgoing_enrollment", "outgoing_messages", ["enrollment_id", "org_id", "id"])
    op.create_index("outgoing_workflow", "outgoing_messages", ["workflow_id", "org_id", "id"])
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY organization ON {table} USING "
            "(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))"
        )


def downgrade() -> None:
    """Drop the tables; their policies go with them."""
    for table in reversed(_TABLES):
        op.drop_table(table)
