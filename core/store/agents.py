"""Deployed agents and the executions that ran on them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Select, Table, delete, select

from core.store.enrollments import enrollments
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction

agents = Table(
    "agents",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("display_name", Name, nullable=False),
    Column("workflow_id", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
)

executions = Table(
    "executions",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("agent_id", Name, nullable=False),
    Column("workflow_id", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("enrollment_id", Name, nullable=False),
    Column("contact_id", Name, nullable=False),
    Column("input", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("executions_agent", "org_id", "agent_id", "id"),
)


def executions_with_enrollments() -> Select[Any]:
    """Return the query of executions with the state of the enrollment that carries each: there is no second state."""
    return select(
        executions,
        enrollments.c.state.label("enrollment_state"),
        enrollments.c.data.label("enrollment_data"),
        enrollments.c.end_reason,
        enrollments.c.step_id,
        enrollments.c.ended_at,
    ).join(enrollments, enrollments.c.id == executions.c.enrollment_id)


async def get_agent(tx: Transaction, agent_id: str) -> Row[Any] | None:
    """Return an agent, or None."""
    return await tx.first(select(agents).where(agents.c.id == agent_id))


async def get_execution(tx: Transaction, execution_id: str) -> Row[Any] | None:
    """Return an execution with its enrollment's state, or None."""
    return await tx.first(executions_with_enrollments().where(executions.c.id == execution_id))


async def remove_execution_of(tx: Transaction, enrollment_id: str) -> None:
    """Delete the execution that an enrollment carried."""
    await tx.run(delete(executions).where(executions.c.enrollment_id == enrollment_id))
