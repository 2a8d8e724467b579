"""Carrying a qualification out: its plan kept, a person asked where one must agree, records changed, endpoints told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from core import ids
from core.domain.control.plan import Item, Weighed
from core.domain.effects import Emit
from core.domain.errors import PlanStale
from core.domain.frozen import frozen
from core.domain.qualification import routing
from core.domain.qualification.claims import Claim
from core.domain.qualification.plan import difference
from core.domain.records.values import instant_text
from core.rpc.approvals import plan_kinds
from core.rpc.approvals.plan_kinds import CarriedOut, PlanKind
from core.rpc.call import Call
from core.rpc.qualification import tier_effects
from core.rpc.qualification.qualifying import (
    Model,
    Person,
    Planned,
    Qualification,
    Target,
    candidates,
    find,
    load_model,
    weigh,
)
from core.store.qualification import qualification as store
from core.store.qualification import routing_leads
from core.store.records import records
from core.store.records.records import Record
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Emission

KIND = "qualification"


@frozen
class Outcome:
    """What became of a commit."""

    qualification: Qualification
    plan: Row[Any] | None
    person: Person
    """The records, also those that the commit created."""
    applied: bool
    approval_id: str = ""


class MadeMeanwhile(Exception):
    """The contact of an e-mail came into being between being looked for and being created."""


async def keep(call: Call, qualification: Qualification, target: Target) -> Row[Any]:
    """Store a plan for 24 hours."""
    body = {"target": _stored(target), "effect": dict(qualification.body), "at": call.now.isoformat()}
    return await plan_kinds.keep(call, KIND, _weighed(qualification), body)


async def commit_now(call: Call, target: Target, model: Model) -> Outcome:
    """Qualify and apply at once, or ask for the approval that is needed."""
    try:
        return await _commit_now(call, target, model)
    except MadeMeanwhile:  # it has the given facts now, and is found the second time
        return await _commit_now(call, target, model)


async def _commit_now(call: Call, target: Target, model: Model) -> Outcome:
    await _hold_turns(call, model)
    person = await find(call.tx, target, lock=True)
    qualification = await weigh(call, model, target, person, lock=True)
    if qualification.approval_reason:
        plan = await keep(call, qualification, target)
        return await commit_plan(call, plan)
    return Outcome(qualification, None, await _apply(call, qualification, ""), applied=True)


async def commit_plan(call: Call, row: Row[Any]) -> Outcome:
    """Apply a plan exactly as it was previewed, or ask for its approval; the caller holds its row.

    Raises what `plan_kinds.carry_out` does.
    """
    return _outcome(await plan_kinds.carry_out(call, row))


async def _hold_turns(call: Call, model: Model) -> None:
    """Hold the turns of the model's routing, before any record: the order in which everybody holds them."""
    if model.rules.routing_id:
        await routing_leads.hold(call.tx)


def _outcome(done: CarriedOut) -> Outcome:
    qualification: Qualification = done.weighed.found
    person = done.result if done.applied else qualification.person
    return Outcome(qualification, done.row, person, applied=done.applied, approval_id=done.approval_id)


def _weighed(qualification: Qualification) -> Weighed:
    """Return a qualification as plans are kept."""
    return Weighed(
        title=_title(qualification),
        items=[
            Item(setting.record, _who(qualification), setting.changes)
            for setting in qualification.settings
            if setting.changes
        ],
        own_hash=qualification.hash,
        approval_reason=qualification.approval_reason,
        details=_details(qualification),
        found=qualification,
    )


async def _weigh_again(call: Call, row: Row[Any]) -> Weighed:
    """Return what a kept plan would do now."""
    effect: Mapping[str, Any] = row.body["effect"]
    target = stored_target(row)
    model = await load_model(call.tx, effect["model_id"], effect["model_version"])
    await _hold_turns(call, model)
    person = await find(call.tx, target, lock=True)
    planned = Planned(effect["owner_id"], effect["owner_method"], datetime.fromisoformat(row.body["at"]))
    return _weighed(await weigh(call, model, target, person, planned=planned, lock=True))


def _changed(row: Row[Any], weighed: Weighed) -> str:
    return difference(row.body["effect"], weighed.found.body)


async def _apply_plan(call: Call, row: Row[Any], weighed: Weighed) -> Person:
    try:
        return await _apply(call, weighed.found, row.id)
    except MadeMeanwhile:
        raise PlanStale(plan_id=row.id, why="the contact has been created meanwhile") from None


plan_kinds.register(
    PlanKind(KIND, "leads:qualify", _weigh_again, _apply_plan, _changed, method="QualificationService.QualifyLead")
)


def _title(qualification: Qualification) -> str:
    result = qualification.result
    return f"Qualify {_who(qualification)}: {result.decision.value}, tier {result.tier or '-'}, score {result.score}"


def _who(qualification: Qualification) -> str:
    contact = qualification.person.contact
    known = dict(contact.fields) if contact else {}
    known |= {change.field: change.new for change in qualification.contact.changes}
    return str(known.get("email") or (contact.id if contact else "a new contact"))


def _details(qualification: Qualification) -> dict[str, Any]:
    result, choice = qualification.result, qualification.choice
    return {
        "reason": qualification.approval_reason,
        "who": _who(qualification),
        "lead_id": qualification.body["lead_id"] or "",
        "contact_id": qualification.body["contact_id"] or "",
        "decision": result.decision.value,
        "score": result.score,
        "tier": result.tier,
        "owner": choice.display_name if choice else "",
        "owner_id": choice.member_id if choice else "",
        "contributions": [
            {"rule": one.rule_id, "points": one.points} for one in (*result.contributions, *result.disqualifiers)
        ],
        "changes": [
            {"record": setting.record, "field": change.field, "old": change.old, "new": change.new}
            for setting in qualification.settings
            for change in setting.changes
        ],
        "model": f"{qualification.model.id} v{qualification.model.version}",
    }


async def _apply(call: Call, qualification: Qualification, plan_id: str) -> Person:
    """Write what was decided and return the records after it; the person is held by this transaction."""
    tx, actor = call.tx, call.caller.principal_id
    cause = f"plan:{plan_id}" if plan_id else call.cause
    contact = qualification.person.contact
    contact_patch = {change.field: change.new for change in qualification.contact.changes}
    if contact is None:
        written = await records.upsert(tx, "contact", contact_patch, actor=actor, cause=cause)
        if not written.created:
            raise MadeMeanwhile
        contact = written.record
    elif contact_patch:
        contact = (await records.update(tx, contact.id, contact_patch, actor=actor, cause=cause)).record
    lead = qualification.person.lead
    lead_patch = {change.field: change.new for change in qualification.lead.changes}
    lead_patch["qualified_at"] = instant_text(call.now)
    if lead is None:
        fields = {"contact_id": contact.id, **lead_patch}
        lead = (await records.upsert(tx, "lead", fields, actor=actor, cause=cause)).record
    else:
        lead = (await records.update(tx, lead.id, lead_patch, actor=actor, cause=cause)).record
    await _take_turn(call, qualification, lead.id, cause)
    await tier_effects.carry_out(call, qualification, contact.id, lead.id)
    await deliveries.emit(tx, [_qualified(call, qualification, contact, lead, plan_id, cause)])
    return Person(contact, lead)


async def _take_turn(call: Call, qualification: Qualification, lead_id: str, cause: str) -> None:
    """Move the turn on if it was the chosen owner's; a promise kept out of turn costs nobody theirs."""
    choice, routed = qualification.choice, qualification.model.rules.routing
    if choice is not None and qualification.model.rules.routing_id:
        await routing_leads.assign(call.tx, lead_id, choice, actor=call.caller.principal_id, cause=cause)
        return
    if choice is None or routed is None or choice.method != routed.method:
        return
    there = await candidates(call.tx, routed.members)
    due = routing.choose(routed, there, await store.cursor(call.tx, qualification.model.id, lock=True))
    if due.member_id == choice.member_id:
        await store.move_cursor(call.tx, qualification.model.id, due.cursor)


def _qualified(
    call: Call, qualification: Qualification, contact: Record, lead: Record, plan_id: str, cause: str
) -> Emission:
    result = qualification.result
    data = {
        "lead_id": lead.id,
        "contact_id": contact.id,
        "decision": result.decision.value,
        "score": result.score,
        "tier": result.tier,
        "owner_id": lead.fields.get("owner_id") or "",
        "model_id": qualification.model.id,
        "model_version": qualification.model.version,
        "plan_id": plan_id,
        "actor": call.caller.principal_id,
        "cause": cause,
    }
    return Emission(call.caller.org_id, Emit(ids.mint("msg", call.now), "lead.qualified", data))


def _stored(target: Target) -> dict[str, Any]:
    return {
        "lead_id": target.lead_id,
        "email": target.email,
        "given": dict(target.given) if target.given is not None else None,
        "as_of": target.as_of.isoformat() if target.as_of else None,
        "claims": [{**asdict(one), "observed_at": one.observed_at.isoformat()} for one in target.claims],
    }


def stored_target(row: Row[Any]) -> Target:
    """Return whom a plan is about."""
    target: Mapping[str, Any] = row.body["target"]
    as_of = datetime.fromisoformat(target["as_of"]) if target["as_of"] else None
    claims = [
        Claim(**{**one, "observed_at": datetime.fromisoformat(one["observed_at"])}) for one in target.get("claims", ())
    ]
    return Target(target["lead_id"], target["email"], target["given"], as_of, tuple(claims))
