"""Leads whose owner did not respond in time, or gave them back: they go to somebody else, or people are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy import Row

from core.domain import names
from core.domain.effects import Emit
from core.domain.errors import NotFound, WrongState
from core.domain.records.standard import CLOSED_LEAD_STATUSES
from core.store.control import audit
from core.store.database import Database
from core.store.qualification import assignments, routing_leads, routings
from core.store.qualification.assignments import AssignmentState
from core.store.qualification.routing_leads import Why
from core.store.records.records import Record
from core.store.transaction import Transaction
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Emission

_log = structlog.get_logger()

DEFAULT_ROUTING = "default"
SYSTEM = "system"
"""The actor of what happens because time is over."""
_AT_ONCE = 200

_MISSED = "had the lead and did not respond in time"
_DECLINED = "had the lead and gave it back"


async def upkeep(database: Database) -> int:
    """Look after every assignment whose time is over, each in a transaction of its own; return how many there were."""
    async with database.system() as tx:
        waiting = await assignments.overdue(tx, _AT_ONCE)
    for org, assignment_id in waiting:
        try:
            async with database.system() as tx:
                await look_after(tx.within(org), assignment_id)
        except Exception:  # one that cannot be looked after holds up nobody else; it is tried again in the next round
            _log.exception("an overdue assignment could not be looked after", assignment=assignment_id)
    return len(waiting)


async def look_after(tx: Transaction, assignment_id: str) -> None:
    """Give an overdue lead to somebody else, or tell people; nothing when somebody responded meanwhile."""
    await routings.hold(tx)
    row = await assignments.get(tx, assignment_id, lock=True)
    if row is None or row.check_at is None or row.check_at > tx.now:
        return
    lead = await _lead(tx, row.lead_id)
    if lead is None or lead.fields.get("owner_id") != row.member_id or _is_closed(lead.fields.get("status")):
        # Somebody else has it by now, or it is settled: nobody is late.
        await assignments.end(tx, row.id, AssignmentState.REPLACED)
        return
    why = Why(SYSTEM, f"sla:{row.id}", "The time to respond was over.", row, {**row.excluded, row.member_id: _MISSED})
    if row.reroutes_left > 0:
        following = await _again(tx, row, replace(why, reroutes_left=row.reroutes_left - 1), AssignmentState.REROUTED)
        if following is not None:
            said = "rerouted a lead whose time to respond was over"
            await audit.by_system(tx, tx.org_id, "RerouteLead", subject_id=row.lead_id, summary=said, cause=why.cause)
            return
    await assignments.change(tx, row.id, check_at=None)
    said = "told that nobody responded to a lead in time"
    await audit.by_system(tx, tx.org_id, "EscalateLead", subject_id=row.lead_id, summary=said, cause=why.cause)
    late = "nobody else could take it" if row.reroutes_left > 0 else "the owner did not respond in time"
    await deliveries.emit(tx, [_overdue(tx, row, late)])


async def _lead(tx: Transaction, lead_id: str) -> Record | None:
    """Return a lead that is held, with its contact: whoever gives it to somebody by hand meanwhile is heeded."""
    try:
        return (await routing_leads.lead_of(tx, lead_id, lock=True))[0]
    except NotFound:
        return None


def _is_closed(status: Any) -> bool:
    return status in CLOSED_LEAD_STATUSES


async def decline(tx: Transaction, assignment_id: str, *, actor: str, cause: str, reason: str) -> Row[Any]:
    """Route a lead again without the one who gives it back; return the assignment that follows.

    When nobody else can take it, the lead has no owner, people are told, and the assignment itself is returned.

    Raises NotFound, and WrongState for an assignment that is over.
    """
    await routings.hold(tx)
    row = await held(tx, assignment_id, "declining it")
    why = Why(actor, cause, reason, row, {**row.excluded, row.member_id: _DECLINED}, row.reroutes_left)
    following = await _again(tx, row, why, AssignmentState.DECLINED)
    if following is not None:
        return following
    await routing_leads.free(tx, row, why)
    await deliveries.emit(tx, [_overdue(tx, row, "the owner gave it back, and nobody else could take it")])
    return await assignments.end(tx, row.id, AssignmentState.DECLINED)


async def held(tx: Transaction, assignment_id: str, action: str) -> Row[Any]:
    """Return an assignment that is not over, held until the transaction ends. Raises NotFound and WrongState."""
    row = await assignments.get(tx, assignment_id, lock=True)
    if row is None:
        raise NotFound(kind="assignment", id=assignment_id)
    if row.ended_at is not None:
        raise WrongState(kind="assignment", id=row.id, state=row.state, action=action)
    return row


async def _again(tx: Transaction, row: Row[Any], why: Why, state: AssignmentState) -> Row[Any] | None:
    """Route a lead again and end the assignment before; None when nobody else can take it."""
    routing_id = row.routing_id or DEFAULT_ROUTING
    if await routings.get_version(tx, routing_id) is None:
        return None
    try:
        _, following = await routing_leads.route(tx, routing_id, row.lead_id, why)
    except NotFound:  # the lead is gone
        return None
    if following is not None:
        await assignments.end(tx, row.id, state)
    return following


def _overdue(tx: Transaction, row: Row[Any], reason: str) -> Emission:
    data = {
        "lead_id": row.lead_id,
        "assignment_id": row.id,
        "member_id": row.member_id,
        "routing_id": row.routing_id,
        "rule_id": row.rule_id,
        "response_due_at": row.response_due_at.isoformat() if row.response_due_at else "",
        "reason": reason,
        "cause": row.cause,
    }
    event = "lead.assignment_overdue"
    return Emission(tx.org_id, Emit(names.derive("msg", tx.now, row.id, event), event, data))
