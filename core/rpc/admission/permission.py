"""The stage of the pipeline that asks policies and charges budgets, for every writing method on every surface.

A policy that wants an approval gets one that is bound to this very call: the caller is refused, the approval is
written all the same, and once others have agreed, the same call of the same principal goes through, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from sqlalchemy import Row

from core import ids
from core.domain.control import approval as rules
from core.domain.control import audit, showing
from core.domain.control import policy as policy_rules
from core.domain.control.approval import ApprovalState
from core.domain.control.digest import canonical
from core.domain.control.policy import Demand, Effect, Policy, Verdict
from core.domain.errors import (
    ApprovalRejected,
    ApprovalRequired,
    CallNeedsApproval,
    CallWouldNeedApproval,
    PolicyDenied,
    TooManyRequested,
)
from core.rpc.admission import audit_trail, policy_facts, referred
from core.rpc.admission.fingerprint import for_deciders, request_hash
from core.rpc.admission.referred import Referred
from core.rpc.approvals import plan_kinds
from core.rpc.approvals.plan_kinds import USE_WITHIN
from core.rpc.call import Call
from core.rpc.methods import Access, Method
from core.rpc.writing import written
from core.store.control import approvals, budgets, plans
from core.store.control.approvals import NewApproval
from core.store.control.budgets import Spender
from core.store.transaction import Transaction
from core.store.webhooks import deliveries

SUBJECT = "call"
"""The kind of subject by which approvals of calls are asked for."""

MOST_PENDING = 500
"""Approvals of calls that one principal can have asked for at once."""


class NeedsApproval(Exception):
    """A policy wants an approval that is not there; it is asked for once this transaction is rolled back."""

    def __init__(self, method: Method, request: Message | None, demand: Demand):
        self.method = method
        self.request = request
        self.demand = demand


def concerns(method: Method) -> bool:
    """Tell whether policies are asked of a method: of whatever is not only a look."""
    return method.access is Access.WRITE or (method.access is Access.OUTSIDE and not method.scope.endswith(":read"))


async def admit(method: Method, request: Message | None, call: Call, tx: Transaction) -> Call:
    """Ask the policies of a call, in the transaction of its effect; return the call as it may go on.

    A call that applies a plan brings along what its approval must be: the plan asks for it, whichever method applies
    it, and whichever of those methods a policy names.

    Raises PolicyDenied, ApprovalRejected, and NeedsApproval where an approval must be asked for first.
    """
    found = await call.parts.rulebook.of(call.parts.database, tx)
    doors = await _doors(method, request, tx)
    if not any(policy.looks_at(door) for policy in found.policies for door in doors):
        return call
    verdicts = [await _judged(found.policies, door, request, call, tx) for door in doors]
    for verdict in verdicts:
        if verdict.effect is Effect.DENY:
            raise denied(verdict)
    demands = tuple(dict.fromkeys(verdict.demand for verdict in verdicts if verdict.demand is not None))
    if not demands:
        return call
    if _applies_a_plan(method, request):
        return replace(call, demands=demands)
    (demand,) = demands  # one door, one answer
    if getattr(request, "validate_only", False):
        raise CallWouldNeedApproval(why=demand.reason.rstrip("."), policy_id=demand.policy_id, approval_id="")
    await _use(method, request, call, tx, demand)
    return replace(call, agreed=demand)


async def admit_batch(name: str, request: Message, call: Call, tx: Transaction) -> None:
    """Ask the policies of a part of what a call sends as it goes. Raises PolicyDenied.

    An approval is for the whole stream, and is asked for when it begins; a part that needs one by itself is refused.
    """
    found = await call.parts.rulebook.of(call.parts.database, tx)
    if not any(policy.looks_at(name) for policy in found.policies):
        return
    verdict = await _judged(found.policies, name, request, call.within(tx), tx)
    if verdict.effect is Effect.DENY:
        raise denied(verdict)
    if verdict.demand is not None and verdict.demand != call.agreed:
        why = "it wants an approval, and a stream cannot wait for one: send these in a single call"
        raise PolicyDenied(policy_id=verdict.demand.policy_id, why=why)


async def _judged(
    policies: Sequence[Policy], name: str, request: Message | None, call: Call, tx: Transaction
) -> Verdict:
    wanted = policy_rules.reads(policies, name)
    facts = await policy_facts.facts(tx, call.caller, name, request, wanted, call)
    return policy_rules.judge(policies, name, facts)


def _applies_a_plan(method: Method, request: Message | None) -> bool:
    return bool(getattr(request, "plan_id", "")) and method.name != "ApprovalService.CancelPlan"


async def _doors(method: Method, request: Message | None, tx: Transaction) -> tuple[str, ...]:
    """Return the methods whose policies a call must pass: a plan of most kinds can be applied by either of two.

    They come in one order, whichever was called: what is asked for is not the caller's choice.
    """
    if not _applies_a_plan(method, request):
        return (method.name,)
    plan = await plans.get(tx, getattr(request, "plan_id", ""))
    kind = plan_kinds.kinds().get(plan.kind) if plan is not None else None
    others = ("ApprovalService.ApplyPlan", kind.method if kind is not None else "")
    return tuple(sorted({name for name in (method.name, *others) if name}))


def denied(verdict: Verdict) -> PolicyDenied:
    """Return the refusal of a policy."""
    policy_id = verdict.policy.id if verdict.policy is not None else ""
    return PolicyDenied(policy_id=policy_id, why=verdict.reason.rstrip("."))


async def admit_outside(method: Method, request: Message | None, call: Call) -> Call:
    """Ask the policies of a call that opens its own transactions, and charge it, before it begins."""
    if not concerns(method):
        return call
    database = call.parts.database
    async with database.read(call.caller.org_id) as tx:
        found = await call.parts.rulebook.of(database, tx)
    if not found.limits and not any(policy.looks_at(method.name) for policy in found.policies):
        return call

    async def work(tx: Transaction) -> Call:
        admitted = await admit(method, request, call.within(tx), tx)
        await charge(admitted)
        return replace(admitted, _tx=None)

    try:
        return await written(database, call.caller.org_id, work)
    except NeedsApproval as wanted:
        raise await ask(wanted, call) from None


async def charge(call: Call) -> None:
    """Charge what a call did, at the end of its transaction. Raises BudgetExhausted: nothing of it then happens."""
    tx = call.tx
    found = await call.parts.rulebook.of(call.parts.database, tx)
    if found.limits:
        await budgets.charge(tx, spender(call), {"writes": 1, **tx.spent})


def spender(call: Call) -> Spender:
    """Return whose budgets a call is charged to."""
    caller = call.caller
    return Spender(caller.principal_id, caller.principal_kind, caller.agent_id)


def fingerprint(method: Method, request: Message | None, call: Call, refers: Referred) -> str:
    """Return the hash that an approval of a call is bound to: who, which method, every word, and what it refers to."""
    asked = request_hash(method, request) if request is not None else hashlib.sha256(method.name.encode()).hexdigest()
    bound = canonical(refers.bound) if refers.bound else ""
    return "sha256:" + hashlib.sha256(f"{call.caller.principal_id}\0{asked}\0{bound}".encode()).hexdigest()


async def _use(method: Method, request: Message | None, call: Call, tx: Transaction, demand: Demand) -> None:
    """Use the approval of this very call. Raises NeedsApproval when there is none, ApprovalRejected."""
    subject = fingerprint(method, request, call, await referred.of(call, method, request, lock=True))
    for row in await approvals.all_of_subject(tx, SUBJECT, subject, lock=True):
        approval = approvals.to_domain(row)
        if row.policy_id != demand.policy_id or approval.rule != demand.rule:
            continue  # it was asked for under other terms
        if approval.state is ApprovalState.APPROVED and approval.decided_at is not None:
            if call.now < approval.decided_at + USE_WITHIN:
                await approvals.save(tx, rules.use(approval, subject))
                return
        elif approval.state is ApprovalState.REJECTED and call.now < (approval.expires_at or call.now):
            said = approval.comment or "no reason given"
            raise ApprovalRejected(approval_id=row.id, decider_id=approval.decider_id, comment=said)
    raise NeedsApproval(method, request, demand)


async def ask(wanted: NeedsApproval, call: Call) -> ApprovalRequired:
    """Ask for the approval of a call, unless that is done already, and return the error that tells of it."""
    demand = wanted.demand
    approval_id = await written(call.parts.database, call.caller.org_id, lambda tx: _ask(wanted, call.within(tx)))
    return CallNeedsApproval(
        why=demand.reason.rstrip("."), policy_id=demand.policy_id, approval_id=approval_id, state="pending"
    )


async def _ask(wanted: NeedsApproval, call: Call) -> str:
    tx, demand = call.tx, wanted.demand
    refers = await referred.of(call, wanted.method, wanted.request)
    subject = fingerprint(wanted.method, wanted.request, call, refers)
    if tx.dialect == "postgresql":  # two calls at once must not ask twice; SQLite has one writer
        await tx.fetch("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{tx.org_id}/{subject}")
    pending = await _pending(tx, subject, demand, call)
    if pending is not None:
        return str(pending.id)
    if await approvals.pending_of(tx, SUBJECT, call.caller.principal_id) >= MOST_PENDING:
        raise TooManyRequested(limit=MOST_PENDING)
    request = NewApproval(
        org_id=call.caller.org_id,
        id=ids.mint("apr", call.now),
        subject_kind=SUBJECT,
        subject_id=subject,
        title=f"{call.caller.display_name}: {wanted.method.name}"[:300],
        subject_hash=subject,
        requester_id=call.caller.principal_id,
        details=_details(wanted, call, refers),
        expires_at=call.now + demand.rule.sla,
        rule=demand.rule,
        policy_id=demand.policy_id,
    )
    await approvals.create_many(tx, [request])
    await deliveries.emit(tx, [request.announcement(call.now)])
    await audit_trail.note(
        tx,
        call,
        method="ApprovalService.RequestApproval",
        subject_id=request.id,
        summary="asked for the approval of a call",
    )
    return request.id


async def _pending(tx: Transaction, subject: str, demand: Demand, call: Call) -> Row[Any] | None:
    for row in await approvals.all_of_subject(tx, SUBJECT, subject):
        approval = approvals.to_domain(row)
        same = row.policy_id == demand.policy_id and approval.rule == demand.rule
        if same and approval.state is ApprovalState.PENDING and not rules.is_overdue(approval, call.now):
            return row
    return None


def _details(wanted: NeedsApproval, call: Call, refers: Referred) -> dict[str, Any]:
    """Return what those who decide are shown: every field of the request, and what it would change."""
    told: dict[str, Any] = {}
    if wanted.request is not None:
        told = json_format.MessageToDict(for_deciders(wanted.request), preserving_proto_field_name=True)
    request, paths = showing.shown(told)
    found = {
        "reason": wanted.demand.reason,
        "method": wanted.method.name,
        "caller": call.caller.display_name,
        "request": request,
    }
    changes, more = showing.shown(refers.changes)
    why = audit.told_reason(audit_trail.said(call))
    parts = {"said": why, "fields": paths, "refers_to": dict(refers.bound), "changes": changes, "changed": more}
    return found | {name: part for name, part in parts.items() if part}
