"""Deployed agents: what they run, by which template, and whether they may."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Integer, Row, Table, select, update

from core.domain.control.approval import ApprovalState
from core.store.control import approval_subjects
from core.store.control.approval_subjects import Settlement
from core.store.keys import these
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.paging import page
from core.store.transaction import Transaction

SUBJECT = "agent"
"""The kind of subject by which the approval of a deployment is asked for."""

KEYS_CHANGED = "keys"
"""What is signalled when an agent's keys may do something else than before."""


class AgentState(StrEnum):
    """Where an agent is."""

    PENDING_APPROVAL = "pending_approval"
    ACTIVE = "active"
    PAUSED = "paused"
    STOPPED = "stopped"
    REJECTED = "rejected"


agents = Table(
    "agents",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("display_name", Name, nullable=False),
    Column("workflow_id", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("template_id", Name, nullable=False, server_default=""),
    Column("template_version", Integer, nullable=False, server_default="0"),
    Column("state", Name, nullable=False, server_default=AgentState.ACTIVE.value),
    Column("approval_id", Name, nullable=False, server_default=""),
    Column("state_reason", Name, nullable=False, server_default=""),
    # Prices by unit, as they were when it was deployed.
    Column("prices", Json, nullable=False, server_default="{}"),
)


async def create(tx: Transaction, row: Mapping[str, Any]) -> bool:
    """Write a new agent; False when its id is taken."""
    return bool(await tx.insert(agents, [row], on_conflict="ignore"))


async def get_agent(tx: Transaction, agent_id: str, *, lock: bool = False, at_work: bool = False) -> Row[Any] | None:
    """Return an agent, or None; `lock` holds it until the transaction ends, `at_work` its state alone, with others."""
    statement = select(agents).where(agents.c.id == agent_id)
    return await tx.first(statement.with_for_update(read=not lock) if lock or at_work else statement)


async def listed(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of agents, newest first."""
    return await page(tx, select(agents), agents.c.id, size, token)


async def display_names(tx: Transaction, agent_ids: Collection[str]) -> dict[str, str]:
    """Return how agents are called, by id."""
    rows = await tx.all(select(agents.c.id, agents.c.display_name).where(agents.c.id.in_(sorted(agent_ids))))
    return {row.id: row.display_name for row in rows}


async def set_state(tx: Transaction, agent_id: str, state: AgentState, reason: str = "") -> None:
    """Write an agent's state; the caller holds its row. Its keys are asked for anew everywhere."""
    await tx.run(update(agents).where(agents.c.id == agent_id).values(state=state.value, state_reason=reason))
    tx.wake(KEYS_CHANGED)


async def _settled(tx: Transaction, approval: Row[Any], settlement: Settlement) -> None:
    """Let an agent go to work, or not, once it is decided."""
    row = await get_agent(tx, approval.subject_id, lock=True)
    if row is None or row.state != AgentState.PENDING_APPROVAL or row.approval_id != approval.id:
        return
    if settlement.approved:
        await set_state(tx, row.id, AgentState.ACTIVE)
        return
    why = {ApprovalState.REJECTED: "was rejected", ApprovalState.EXPIRED: "expired"}
    told = f"Its approval {approval.id} {why.get(settlement.state, 'was withdrawn')}."
    await set_state(tx, row.id, AgentState.REJECTED, f"{told} {settlement.comment}".strip())


async def _hold(tx: Transaction, subjects: Sequence[tuple[str, str]]) -> None:
    await tx.all(
        select(agents.c.id).where(these(agents, subjects)).order_by(agents.c.org_id, agents.c.id).with_for_update()
    )


approval_subjects.register(SUBJECT, _settled, used_at_once=True, hold=_hold)
