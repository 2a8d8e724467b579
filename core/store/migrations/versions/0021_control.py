"""Plans of every kind, rounds of approvals, policies, budgets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_TABLES = ("plan_items", "approval_votes", "policies", "budgets", "budget_use")
_NOTHING = sa.text("'{}'")


def upgrade() -> None:
    """Add columns and tables; plans and approvals that are there keep their meaning."""
    _plans()
    for column in ("rule", "delegations"):
        op.add_column("approvals", sa.Column(column, Json(), nullable=False, server_default=_NOTHING))
    op.add_column("approvals", sa.Column("policy_id", Name, nullable=False, server_default=""))
    op.add_column("approvals", sa.Column("escalated_at", Instant()))
    op.add_column("events", sa.Column("actor", Name, nullable=False, server_default=""))
    op.create_table(
        "approval_votes",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("approval_id", Name, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("principal_id", Name, nullable=False),
        sa.Column("decision", Name, nullable=False),
        sa.Column("comment", Name, nullable=False),
        sa.Column("on_behalf_of", Name, nullable=False),
        sa.Column("behind", Json()),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "approval_id", "number"),
    )
    op.create_table(
        "policies",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("place", Name, nullable=False),
        sa.Column("description", Name, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("methods", Json(), nullable=False),
        sa.Column("condition", Name, nullable=False),
        sa.Column("effect", Name, nullable=False),
        sa.Column("rule", Json(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("policies_place", "policies", ["org_id", "place"], unique=True)
    op.create_table(
        "budgets",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("principal_id", Name, nullable=False),
        sa.Column("metric", Name, nullable=False),
        sa.Column("daily_limit", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "principal_id", "metric"),
    )
    op.create_table(
        "budget_use",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("principal_id", Name, nullable=False),
        sa.Column("metric", Name, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("millionths", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("org_id", "principal_id", "metric", "day"),
    )
    op.create_index("budget_use_day", "budget_use", ["day"])
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(
                f"CREATE POLICY organization ON {table} USING "
                "(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))"
            )


def _plans() -> None:
    with op.batch_alter_table("plans") as plans:
        plans.alter_column("created_by", new_column_name="requester_id")
        plans.add_column(sa.Column("title", Name, nullable=False, server_default=""))
        plans.add_column(sa.Column("state", Name, nullable=False, server_default="open"))
        plans.add_column(sa.Column("risk", Name, nullable=False, server_default="low"))
        plans.add_column(sa.Column("counts", Json(), nullable=False, server_default=_NOTHING))
        plans.add_column(sa.Column("item_count", sa.Integer(), nullable=False, server_default="0"))
        plans.add_column(sa.Column("excluded_count", sa.Integer(), nullable=False, server_default="0"))
        plans.add_column(sa.Column("approval_reason", Name, nullable=False, server_default=""))
        plans.add_column(sa.Column("approval_id", Name, nullable=False, server_default=""))
        plans.add_column(sa.Column("forgotten_at", Instant()))
    op.execute("UPDATE plans SET state = 'applied' WHERE applied_at IS NOT NULL")
    op.create_index("plans_state", "plans", ["org_id", "state", "id"])
    standing = sa.text("state IN ('open', 'awaiting_approval')")
    op.create_index("plans_expiring", "plans", ["expires_at"], sqlite_where=standing, postgresql_where=standing)
    over = sa.text("forgotten_at IS NULL AND state NOT IN ('open', 'awaiting_approval')")
    op.create_index("plans_with_items", "plans", ["expires_at"], sqlite_where=over, postgresql_where=over)
    op.create_table(
        "plan_items",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("plan_id", Name, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("record_id", Name, nullable=False),
        sa.Column("title", Name, nullable=False),
        sa.Column("changes", Json(), nullable=False),
        sa.Column("excluded_reason", Name, nullable=False),
        sa.PrimaryKeyConstraint("org_id", "plan_id", "number"),
    )


def downgrade() -> None:
    """Take them away."""
    for table in _TABLES:
        op.drop_table(table)
    for column in ("rule", "delegations", "policy_id", "escalated_at"):
        op.drop_column("approvals", column)
    op.drop_column("events", "actor")
    op.drop_index("plans_expiring", "plans")
    op.drop_index("plans_with_items", "plans")
    op.drop_index("plans_state", "plans")
    with op.batch_alter_table("plans") as plans:
        for column in ("title", "state", "risk", "counts", "item_count", "excluded_count"):
            plans.drop_column(column)
        plans.drop_column("approval_reason")
        plans.drop_column("approval_id")
        plans.drop_column("forgotten_at")
        plans.alter_column("requester_id", new_column_name="created_by")
