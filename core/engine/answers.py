"""What the core answers steps that ask, in the transaction in which they ask: whose turn it is, who was enrolled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.domain.effects import Ask
from core.domain.enrollment import Answered, Enrollment
from core.domain.errors import NotFound
from core.domain.qualification import turns
from core.engine.driver import Answer, EnrollmentDriver, Entry
from core.store.organizations import members
from core.store.qualification import qualification, routing_leads
from core.store.qualification.routing_leads import Why
from core.store.transaction import Transaction
from core.store.workflows import workflows
from core.store.workflows.workflows import VersionCache, WorkflowState

_OPEN = (WorkflowState.ACTIVE, WorkflowState.PAUSED)


async def assign_owner(tx: Transaction, enrollment: Enrollment, ask: Ask) -> Answered:
    """Answer whose turn it is; many may ask at once, and each turn is given once."""
    payload = ask.payload
    if "routing_id" in payload:
        return await _route(tx, enrollment, ask)
    owners: Sequence[Mapping[str, Any]] = payload["owners"]
    there = await members.active_by_id(tx, [owner["member"] for owner in owners])
    cursor_id = f"{payload['workflow_id']}/{payload['step_id']}"
    position = await qualification.cursor(tx, cursor_id, lock=True)
    turn = turns.choose(
        [(owner["member"], int(owner["weight"])) for owner in owners],
        available=frozenset(there),
        position=position,
        keep=payload["current"] if payload["method"] == "sticky" else None,
    )
    if turn is None:
        return Answered(ask.id, ok=False, reason="None of them is a member of the organization.", retryable=True)
    await qualification.move_cursor(tx, cursor_id, turn.position)
    name = there[turn.member].display_name
    return Answered(ask.id, ok=True, outputs={"owner_id": turn.member}, reason=f"{turn.why} ({name}).")


async def _route(tx: Transaction, enrollment: Enrollment, ask: Ask) -> Answered:
    """Give the lead to whom a routing says, in this transaction; the machine writes nothing more of it."""
    routing_id, lead_id = str(ask.payload["routing_id"]), str(ask.payload["lead_id"])
    why = Why(f"workflow:{enrollment.workflow_id}", f"enrollment:{enrollment.id}/{enrollment.rev}")
    try:
        routed, row = await routing_leads.route(tx, routing_id, lead_id, why)
    except NotFound as error:
        return Answered(ask.id, ok=False, reason=error.message)
    if row is None:
        rules = "; ".join(routed.decision.skipped_rules)
        return Answered(ask.id, ok=False, reason=f"Nobody can take the lead now ({rules}).", retryable=True)
    person, rule = routed.decision.person, routed.decision.rule
    assert person is not None
    by = f"{routing_id}, rule {rule.id}" if rule is not None else routing_id
    outputs = {"owner_id": person.id}
    return Answered(ask.id, ok=True, outputs=outputs, reason=f"Gave the lead to {person.name} by {by}.")


def enroll_with(driver: EnrollmentDriver, versions: VersionCache) -> Answer:
    """Return what enrolls the contact of an enrollment in another workflow."""

    async def enroll(tx: Transaction, enrollment: Enrollment, ask: Ask) -> Answered:
        payload = ask.payload
        row = await workflows.get(tx, payload["workflow_id"])
        if row is None or row.state not in _OPEN:
            state = "does not exist" if row is None else f"is {row.state}"
            return Answered(ask.id, ok=False, reason=f"The workflow {payload['workflow_id']} {state}.", retryable=True)
        try:
            version = await versions.load(tx, enrollment.org_id, row.id, row.published_version)
        except NotFound:
            return Answered(ask.id, ok=False, reason=f"The workflow {row.id} has no version.")
        entry = Entry(
            payload["contact_id"],
            f"enrollment:{enrollment.id}",
            payload["key"],
            payload["variables"],
            hops=payload["hops"],
            stands=True,
            about=enrollment.about,
        )
        (entered,) = await driver.enter(tx, enrollment.org_id, version, [entry])
        outputs = {"outcome": entered.outcome, "enrollment_id": entered.enrollment_id}
        return Answered(ask.id, ok=True, outputs=outputs, reason=entered.message)

    return enroll
