"""Giving leads to people: what a routing would do, and doing it in one transaction with the turn and all its records.

Whoever gives a lead holds the organization's routing lock before any record, so that turns are fair and nobody gets
more than they have room for, however many ask at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from core import ids
from core.domain import names
from core.domain.effects import Emit
from core.domain.enrollment import RecordFacts
from core.domain.errors import NotFound, RoutingNotFound
from core.domain.frozen import frozen
from core.domain.qualification.routing import Choice, Skipped
from core.domain.routing import decide as deciding
from core.domain.routing.decide import Decision, respond_by
from core.domain.routing.document import Routing
from core.domain.routing.parse import compiled
from core.domain.routing.sight import Person, Sight
from core.domain.workflow import own_kinds
from core.domain.workflow.zones import DEFAULT
from core.store.qualification import assignments, routing_sight, routings
from core.store.qualification.assignments import AssignmentState
from core.store.qualification.routing_sight import Seen
from core.store.qualification.routings import hold as hold
from core.store.records import records
from core.store.records.records import Record
from core.store.transaction import Transaction
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Emission

NAMED = "named"
"""The method of an assignment to somebody named, whatever the routing says."""
DECLINED = "had the lead and gave it back"


@frozen
class Routed:
    """What a routing makes of a lead."""

    routing_id: str
    version: int
    seen: Seen
    decision: Decision
    asked: frozenset[str] = frozenset()
    """Members whom the rules looked at."""


@frozen
class Why:
    """Who gives a lead, and what led to it."""

    actor: str
    cause: str
    reason: str = ""
    previous: Row[Any] | None = None
    """The assignment it follows."""
    excluded: Mapping[str, str] = field(default_factory=dict)
    """Members who had the lead, and why they do not get it again."""
    reroutes_left: int | None = None
    """None for what the rule says."""


async def load(tx: Transaction, routing_id: str) -> tuple[int, Routing]:
    """Return the newest version of a routing, compiled. Raises NotFound, which names the routings there are."""
    row = await routings.get_version(tx, routing_id)
    if row is None:
        raise await unknown(tx, routing_id)
    return row.version, compiled(row.source, own_kinds.from_json(row.own_kinds))


async def unknown(tx: Transaction, routing_id: str) -> RoutingNotFound:
    """Return the error for a routing that is not there."""
    known = ", ".join(await routings.ids(tx)) or "none"
    return RoutingNotFound(kind="routing", id=routing_id, known=known)


def due(routed: Routed) -> datetime | None:
    """Return when the owner should have responded if the lead were given now; None for no SLA."""
    person, rule = routed.decision.person, routed.decision.rule
    if person is None or rule is None:
        return None
    return respond_by(rule.sla, routed.seen.sight.at, routed.seen.zones.get(person.id, DEFAULT))


async def lead_of(tx: Transaction, lead_id: str, *, lock: bool = False) -> tuple[Record, Record | None]:
    """Return a lead and its contact; `lock` holds both. Raises NotFound."""
    lead = await records.get(tx, lead_id)
    if lead is not None and lock:
        # In one statement, in the order in which everybody holds them: the contact, then the lead.
        there = await records.hold(tx, [(tx.org_id, one) for one in (lead.contact_id, lead_id) if one])
        lead = there.get((tx.org_id, lead_id))
    if lead is None or lead.type != "lead":
        raise NotFound(kind="lead", id=lead_id)
    if not lead.contact_id:
        return lead, None
    if lock and (tx.org_id, lead.contact_id) in there:
        return lead, there[tx.org_id, lead.contact_id]
    return lead, await records.get(tx, lead.contact_id)


async def consider(
    tx: Transaction,
    routing_id: str,
    contact: RecordFacts | None,
    lead: RecordFacts | None,
    *,
    excluded: Mapping[str, str] | None = None,
    also: str = "",
) -> Routed:
    """Return what a routing makes of a lead; nothing is written. Raises NotFound for a routing that is not there."""
    version, routing = await load(tx, routing_id)
    extra = [also] if also else []
    seen = await routing_sight.see(tx, routing_id, routing, contact, lead, excluded or {}, extra)
    decision = deciding.decide(routing, seen.sight)
    return Routed(routing_id, version, seen, decision, deciding.asked(routing, seen.sight, decision))


async def propose(
    tx: Transaction, routing_id: str, contact: RecordFacts | None, lead: RecordFacts | None, *, promised: str = ""
) -> Choice:
    """Return who would get a lead; whoever was promised it gets it, as long as they can own leads.

    Nothing is written. With the lock held before, it stays true until the transaction ends.
    """
    routed = await consider(tx, routing_id, contact, lead, also=promised)
    decision = routed.decision
    passed = tuple(Skipped(one.member, one.reason) for one in decision.passed)
    if decision.person is not None and decision.person.id == promised:
        return Choice(promised, decision.person.name, decision.method, passed, grounds=routed)
    kept = next((one for one in routed.seen.sight.people if one.id == promised), None)
    if kept is not None and not deciding.refusal(None, kept, routed.seen.sight):
        # Others have had turns since the preview. The promise holds, and costs nobody the turn that is theirs now.
        return Choice(kept.id, kept.name, NAMED, (), grounds=_named(routed, kept))
    if decision.person is None:
        return Choice("", "", "", passed)
    return Choice(decision.person.id, decision.person.name, decision.method, passed, grounds=routed)


async def assign(tx: Transaction, lead_id: str, choice: Choice, *, actor: str, cause: str) -> None:
    """Write down that a lead went to whom `propose` said in this transaction, why, and the turn.

    The lead itself has its owner already, so nothing is decided again.
    """
    routed = choice.grounds
    if not choice.member_id or not isinstance(routed, Routed):
        return
    lead, contact = await lead_of(tx, lead_id)
    await _write(tx, lead, contact, routed, Why(actor, cause), lead_too=False)


def _named(routed: Routed, person: Person) -> Routed:
    """Return it with a member who was named: nobody's turn passes."""
    decision = Decision(person, None, NAMED, (), ())
    return Routed(routed.routing_id, routed.version, routed.seen, decision)


async def gave_back(tx: Transaction, lead_id: str) -> dict[str, str]:
    """Return who had a lead and does not get it again by a routing, and why."""
    found: dict[str, str] = {}
    for row in await assignments.of_lead(tx, lead_id):
        last = {row.member_id: DECLINED} if row.state == AssignmentState.DECLINED else {}
        found |= {**row.excluded, **last}
    return found


async def route(tx: Transaction, routing_id: str, lead_id: str, why: Why) -> tuple[Routed, Row[Any] | None]:
    """Give a lead to whom a routing says; the assignment is None when nobody can take it, and nothing is written then.

    Raises NotFound for a routing or a lead that is not there.
    """
    await hold(tx)
    lead, contact = await lead_of(tx, lead_id, lock=True)
    facts = None if contact is None else contact.facts
    why = replace(why, excluded={**await gave_back(tx, lead_id), **why.excluded})
    routed = await consider(tx, routing_id, facts, lead.facts, excluded=why.excluded)
    if routed.decision.person is None:
        return routed, None
    return routed, await _write(tx, lead, contact, routed, why)


async def give(tx: Transaction, lead_id: str, member: Row[Any], why: Why) -> Row[Any]:
    """Give a lead to a member, whatever any routing says. Raises NotFound for a lead that is not there."""
    await hold(tx)
    lead, contact = await lead_of(tx, lead_id, lock=True)
    people, zones = await routing_sight.describe(tx, [member], lead_id)
    seen = Seen(Sight(tx.now, people), zones)
    routed = Routed("", 0, seen, Decision(people[0], None, NAMED, (), ()))
    return await _write(tx, lead, contact, routed, why)


async def _write(
    tx: Transaction, lead: Record, contact: Record | None, routed: Routed, why: Why, *, lead_too: bool = True
) -> Row[Any]:
    decision, sight = routed.decision, routed.seen.sight
    person, rule = decision.person, decision.rule
    assert person is not None, "somebody gets it"
    # Kept for good: only what the decision follows from.
    sight = replace(sight, people=tuple(one for one in sight.people if one.id in routed.asked or one.id == person.id))
    sla = rule.sla if rule is not None else None
    respond = due(routed)
    if rule is not None and decision.turns is not None:
        await routings.keep_turns(tx, routed.routing_id, rule.id, decision.turns)
    left = why.reroutes_left if why.reroutes_left is not None else sla.reroutes if sla is not None else 0
    row = await assignments.create(
        tx,
        {
            "id": ids.mint("asg", tx.now),
            "lead_id": lead.id,
            "member_id": person.id,
            "routing_id": routed.routing_id,
            "routing_version": routed.version,
            "rule_id": rule.id if rule is not None else "",
            "method": decision.method,
            "skipped": [[one.member, one.reason] for one in decision.passed],
            "skipped_rules": list(decision.skipped_rules),
            "seen": sight.as_json,
            "excluded": dict(why.excluded),
            "state": AssignmentState.OPEN,
            "reroutes_left": left,
            "response_due_at": respond,
            "check_at": respond,
            "previous_id": why.previous.id if why.previous is not None else "",
            "actor": why.actor,
            "cause": why.cause,
            "reason": why.reason,
            "created_at": tx.now,
            "ended_at": None,
        },
    )
    if lead_too and lead.fields.get("owner_id") != person.id:
        await records.update(tx, lead.id, {"owner_id": person.id}, actor=why.actor, cause=why.cause)
    had_it = why.previous.member_id if why.previous is not None else None
    if contact is not None and contact.fields.get("owner_id") in (None, "", had_it):
        await records.update(tx, contact.id, {"owner_id": person.id}, actor=why.actor, cause=why.cause)
    await deliveries.emit(tx, [Emission(tx.org_id, _assigned(row, lead))])
    return row


def _assigned(row: Row[Any], lead: Record) -> Emit:
    data = {
        "lead_id": row.lead_id,
        "contact_id": lead.contact_id or "",
        "assignment_id": row.id,
        "member_id": row.member_id,
        "method": row.method,
        "routing_id": row.routing_id,
        "rule_id": row.rule_id,
        "previous_assignment_id": row.previous_id,
        "response_due_at": row.response_due_at.isoformat() if row.response_due_at else "",
        "actor": row.actor,
        "cause": row.cause,
    }
    return Emit(names.derive("msg", row.created_at, row.id, "lead.assigned"), "lead.assigned", data)


async def free(tx: Transaction, row: Row[Any], why: Why) -> None:
    """Leave a lead and its contact without an owner, where they are still with the one who had the lead."""
    lead = await records.get(tx, row.lead_id)
    if lead is None:
        return
    contact = await records.get(tx, lead.contact_id) if lead.contact_id else None
    for record in (lead, contact):
        if record is not None and record.fields.get("owner_id") == row.member_id:
            await records.update(tx, record.id, {"owner_id": None}, actor=why.actor, cause=why.cause)
