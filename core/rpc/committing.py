"""Carrying a qualification out: its plan kept, a person asked where one must agree, records changed, endpoints told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from core import ids
from core.domain.control import approval as rules
from core.domain.control.approval import PLAN_APPROVAL_LASTS, ApprovalState
from core.domain.effects import Emit
from core.domain.errors import ApprovalRejected, PlanStale, WrongState
from core.domain.qualification import routing
from core.domain.qualification.plan import PLAN_LASTS, difference
from core.domain.records.values import instant_text
from core.rpc.call import Call
from core.rpc.qualifying import Model, Person, Planned, Qualification, Target, candidates, find, load_model, weigh
from core.store import approvals, deliveries, records
from core.store import qualification as store
from core.store.approvals import NewApproval
from core.store.deliveries import Emission
from core.store.records import Record

KIND = "qualification"
SUBJECT = "plan"
USE_WITHIN = timedelta(days=1)
"""How long after its last moment an approval of a plan can still be used."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A plan that is stored."""

    id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a commit."""

    qualification: Qualification
    plan: Kept | None
    person: Person
    """The records, also those that the commit created."""
    applied: bool
    approval_id: str = ""


class MadeMeanwhile(Exception):
    """The contact of an e-mail came into being between being looked for and being created."""


async def keep(call: Call, qualification: Qualification, target: Target) -> Kept:
    """Store a plan for 24 hours."""
    plan = Kept(ids.mint("pln", call.now), call.now + PLAN_LASTS)
    await store.keep_plan(
        call.tx,
        plan.id,
        kind=KIND,
        digest=qualification.hash,
        body={"target": _stored(target), "effect": dict(qualification.body)},
        by=call.caller.principal_id,
        expires_at=plan.expires_at,
    )
    return plan


async def commit_now(call: Call, target: Target, model: Model) -> Outcome:
    """Qualify and apply at once, or ask for the approval that is needed."""
    try:
        return await _commit_now(call, target, model)
    except MadeMeanwhile:  # it has the given facts now, and is found the second time
        return await _commit_now(call, target, model)


async def _commit_now(call: Call, target: Target, model: Model) -> Outcome:
    person = await find(call.tx, target, lock=True)
    qualification = await weigh(call, model, target, person, lock=True)
    if qualification.approval_reason:
        plan = await keep(call, qualification, target)
        plan, approval_id = await _ask(call, qualification, plan)
        return Outcome(qualification, plan, person, applied=False, approval_id=approval_id)
    return Outcome(qualification, None, await _apply(call, qualification, ""), applied=True)


async def commit_plan(call: Call, row: Row[Any], target: Target) -> Outcome:
    """Apply a plan exactly as it was previewed; the caller holds its row.

    Raises WrongState when it was applied before, PlanStale when it expired or something has changed since, and
    ApprovalRejected when a person refused it.
    """
    if row.applied_at is not None:
        raise WrongState(kind="plan", id=row.id, state="applied", action="another commit")
    if row.expires_at <= call.now:
        raise PlanStale(plan_id=row.id, why=f"it expired at {instant_text(row.expires_at)}")
    approval = await approvals.of_subject(call.tx, SUBJECT, row.id, lock=True)
    _check_standing(approval, row, call.now)
    qualification = await _weigh_again(call, row, target)
    plan = Kept(row.id, row.expires_at)
    if qualification.approval_reason:
        if approval is None:
            plan, approval_id = await _ask(call, qualification, plan)
            return Outcome(qualification, plan, qualification.person, applied=False, approval_id=approval_id)
        if approval.state == ApprovalState.PENDING:
            return Outcome(qualification, plan, qualification.person, applied=False, approval_id=approval.id)
        await approvals.save(call.tx, rules.use(approvals.to_domain(approval), row.hash))
    try:
        person = await _apply(call, qualification, row.id)
    except MadeMeanwhile:
        raise PlanStale(plan_id=row.id, why="the contact has been created meanwhile") from None
    return Outcome(qualification, plan, person, applied=True, approval_id=approval.id if approval else "")


def _check_standing(approval: Row[Any] | None, plan: Row[Any], now: datetime) -> None:
    if approval is None:
        return
    state = ApprovalState(approval.state)
    if state is ApprovalState.REJECTED:
        raise ApprovalRejected(
            approval_id=approval.id, decider_id=approval.decider_id, comment=approval.comment or "no reason given"
        )
    if rules.is_overdue(approvals.to_domain(approval), now):
        state = ApprovalState.EXPIRED
    if state in (ApprovalState.EXPIRED, ApprovalState.CANCELLED):
        raise PlanStale(plan_id=plan.id, why=f"its approval {approval.id} is {state.value}")


async def _weigh_again(call: Call, row: Row[Any], target: Target) -> Qualification:
    """Return what the plan would do now. Raises PlanStale when that is not what was previewed."""
    effect: Mapping[str, Any] = row.body["effect"]
    model = await load_model(call.tx, effect["model_id"], effect["model_version"])
    person = await find(call.tx, target, lock=True)
    planned = Planned(effect["owner_id"], effect["owner_method"])
    qualification = await weigh(call, model, target, person, planned=planned, lock=True)
    if qualification.hash != row.hash:
        raise PlanStale(plan_id=row.id, why=difference(effect, qualification.body) or "the facts have changed")
    return qualification


async def _ask(call: Call, qualification: Qualification, plan: Kept) -> tuple[Kept, str]:
    """Request the approval of a plan; the plan lasts long enough for it to be decided and used."""
    expires_at = call.now + PLAN_APPROVAL_LASTS
    request = NewApproval(
        org_id=call.caller.org_id,
        id=ids.mint("apr", call.now),
        subject_kind=SUBJECT,
        subject_id=plan.id,
        title=_title(qualification),
        subject_hash=qualification.hash,
        requester_id=call.caller.principal_id,
        details=_details(qualification),
        expires_at=expires_at,
    )
    await approvals.create_many(call.tx, [request])
    await deliveries.emit(call.tx, [request.announcement(call.now)])
    plan = Kept(plan.id, expires_at + USE_WITHIN)
    await store.extend_plan(call.tx, plan.id, plan.expires_at)
    return plan, request.id


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
    await _take_turn(call, qualification)
    if plan_id and not await store.mark_applied(tx, plan_id):
        raise WrongState(kind="plan", id=plan_id, state="applied", action="another commit")
    await deliveries.emit(tx, [_qualified(call, qualification, contact, lead, plan_id, cause)])
    return Person(contact, lead)


async def _take_turn(call: Call, qualification: Qualification) -> None:
    """Move the model's turn on if it was the chosen owner's; a promise kept out of turn costs nobody theirs."""
    choice, routed = qualification.choice, qualification.model.rules.routing
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
    }


def stored_target(row: Row[Any]) -> Target:
    """Return whom a plan is about."""
    target: Mapping[str, Any] = row.body["target"]
    as_of = datetime.fromisoformat(target["as_of"]) if target["as_of"] else None
    return Target(target["lead_id"], target["email"], target["given"], as_of)
