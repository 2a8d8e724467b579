"""Agent templates, states of agents, costs of executions, use by day."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_TABLES = ("agent_templates", "execution_costs", "usage_days", "usage_deltas")
_NO_TEXT, _ZERO, _NOTHING = sa.text("''"), sa.text("0"), sa.text("'{}'")


def upgrade() -> None:
    """Add columns and tables; agents that are there are at work, and cost nothing."""
    op.create_table(
        "agent_templates",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content", Json(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id", "version"),
    )
    for name in ("template_id", "approval_id", "state_reason"):
        op.add_column("agents", sa.Column(name, Name, nullable=False, server_default=_NO_TEXT))
    op.add_column("agents", sa.Column("template_version", sa.Integer(), nullable=False, server_default=_ZERO))
    op.add_column("agents", sa.Column("state", Name, nullable=False, server_default=sa.text("'active'")))
    op.add_column("agents", sa.Column("prices", Json(), nullable=False, server_default=_NOTHING))
    op.add_column("executions", sa.Column("principal_id", Name, nullable=False, server_default=_NO_TEXT))
    op.add_column("executions", sa.Column("step_cost", sa.Float(), nullable=False, server_default=_ZERO))
    op.add_column("executions", sa.Column("reported_cost", sa.Float(), nullable=False, server_default=_ZERO))
    op.add_column("executions", sa.Column("tokens", sa.BigInteger(), nullable=False, server_default=_ZERO))
    op.add_column("executions", sa.Column("settled_at", Instant()))
    op.execute(  # of those that are over already nothing is counted any more
        "UPDATE executions SET settled_at = created_at WHERE NOT EXISTS (SELECT 1 FROM enrollments e "
        "WHERE e.org_id = executions.org_id AND e.id = executions.enrollment_id "
        "AND e.state IN ('active', 'awaiting_approval'))"
    )
    standing = sa.text("settled_at IS NULL")
    op.create_index(
        "executions_standing", "executions", ["org_id", "agent_id"], sqlite_where=standing, postgresql_where=standing
    )
    op.create_table(
        "execution_costs",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        sa.Column("execution_id", Name, nullable=False),
        sa.Column("step_id", Name, nullable=False),
        sa.Column("model", Name, nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.Float(), nullable=False),
        sa.Column("principal_id", Name, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("execution_costs_execution", "execution_costs", ["org_id", "execution_id", "id"])
    _use()
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
            op.execute(
                f"CREATE POLICY organization ON {table} USING "
                "(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))"
            )


def _counted() -> list[sa.Column[Any]]:
    return [
        sa.Column("subject_kind", Name, nullable=False),
        sa.Column("subject_id", Name, nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("metric", Name, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.Float(), nullable=False),
    ]


def _use() -> None:
    op.create_table(
        "usage_days",
        sa.Column("org_id", Name, nullable=False),
        *_counted(),
        sa.PrimaryKeyConstraint("org_id", "subject_kind", "subject_id", "day", "metric"),
    )
    op.create_table(
        "usage_deltas",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("id", Name, nullable=False),
        *_counted(),
        sa.PrimaryKeyConstraint("org_id", "id"),
    )
    op.create_index("usage_deltas_subject", "usage_deltas", ["org_id", "subject_kind", "subject_id"])
    op.add_column("step_outcomes", sa.Column("day", sa.Integer(), nullable=False, server_default=_ZERO))


def downgrade() -> None:
    """Remove what was added; on SQLite, which cannot drop columns in place, tables are copied."""
    with op.batch_alter_table("step_outcomes") as table:
        table.drop_column("day")
    for name in _TABLES:
        op.drop_table(name)
    op.drop_index("executions_standing", "executions")
    with op.batch_alter_table("executions") as table:
        for name in ("principal_id", "step_cost", "reported_cost", "tokens", "settled_at"):
            table.drop_column(name)
    with op.batch_alter_table("agents") as table:
        for name in ("template_id", "approval_id", "state_reason", "template_version", "state", "prices"):
            table.drop_column(name)
