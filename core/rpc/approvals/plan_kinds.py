"""The kinds of plans, and the one way in which a plan of any kind is kept, weighed again and applied.

A kind says two things: what a plan would do now (`weigh`, which looks, and holds what it will change), and how to do
it (`apply`). Everything else is the same for all: the hash, expiry, the approval of a person, and that it happens once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from core import ids
from core.domain.control import approval as rules
from core.domain.control import plan as plan_rules
from core.domain.control.approval import ApprovalState, Rule
from core.domain.control.plan import LASTS, PlanState, Risk, Weighed
from core.domain.errors import ApprovalRejected, NotFound, PlanStale, ScopeMissing, WrongState
from core.domain.records.values import instant_text
from core.rpc.call import Call
from core.store.control import approvals
from core.store.control import plans as store
from core.store.control.approvals import NewApproval
from core.store.webhooks import deliveries

USE_WITHIN = timedelta(days=1)
"""How long after its last moment an approval of a plan can still be used."""

_SHOWN_ITEMS = 10

Weigh = Callable[[Call, Row[Any]], Awaitable[Weighed]]
"""Say what a kept plan would do now, from its `body`; hold what it will change."""
Apply = Callable[[Call, Row[Any], Weighed], Awaitable[Any]]
"""Do exactly what was weighed; whatever it returns is handed to who applied the plan."""


@dataclass(frozen=True, slots=True)
class PlanKind:
    """What tells plans of one kind from others."""

    name: str
    scope: str
    """What whoever applies such a plan must hold besides `plans:apply`."""
    weigh: Weigh
    apply: Apply
    difference: Callable[[Row[Any], Weighed], str] | None = None
    """Says in one clause what has changed; by default told from the items."""
    method: str = ""
    """The method that applies such plans beside ApplyPlan, whose policies hold for both; empty for none."""


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """What became of a plan that was to be applied."""

    row: Row[Any]
    """The plan as it is now."""
    weighed: Weighed
    applied: bool
    """False when a person must decide first."""
    approval_id: str = ""
    result: Any = None
    """What the kind's `apply` returned."""


_KINDS: dict[str, PlanKind] = {}


def register(kind: PlanKind) -> None:
    """Make a kind known; called once where the kind is defined."""
    _KINDS[kind.name] = kind


def kinds() -> Mapping[str, PlanKind]:
    """Return the kinds there are, by name."""
    return _KINDS


def cause(plan_id: str) -> str:
    """Return what changes made by a plan name as their cause."""
    return f"plan:{plan_id}"


async def keep(
    call: Call, kind: str, weighed: Weighed, body: Mapping[str, Any], *, lasts: timedelta = LASTS
) -> Row[Any]:
    """Store a plan and return it. `body` is what its kind needs to weigh it again."""
    plan_id = ids.mint("pln", call.now)
    by = call.caller.principal_id
    return await store.keep(call.tx, plan_id, kind, weighed, body, by=by, until=call.now + lasts)


async def held(call: Call, plan_id: str, kind: str = "") -> Row[Any]:
    """Return a plan and hold it until the transaction ends. Raises NotFound, also for one of another kind."""
    row = await store.get(call.tx, plan_id, lock=True)
    if row is None or (kind and row.kind != kind):
        raise NotFound(kind=f"{kind} plan".strip(), id=plan_id)
    return row


async def carry_out(call: Call, row: Row[Any], *, seen_hash: str = "") -> CarriedOut:
    """Apply a plan exactly as it was previewed, or ask for the approval that it needs; the caller holds its row.

    Raises WrongState when it was applied or cancelled before, PlanStale when it expired, when the caller saw another
    one, or when something has changed since, and ApprovalRejected when a person refused it.
    """
    kind = _KINDS[row.kind]
    approval = await approvals.get(call.tx, row.approval_id, lock=True) if row.approval_id else None
    _check_standing(approval, row, call.now)
    if seen_hash and seen_hash != row.hash:
        raise PlanStale(plan_id=row.id, why="the hash you name is not the plan's")
    if not row.hash.startswith("sha256:"):
        raise PlanStale(plan_id=row.id, why="what it was about was erased")
    weighed = await kind.weigh(call, row)
    if weighed.hash() != row.hash:
        raise PlanStale(plan_id=row.id, why=await _difference(call, kind, row, weighed))
    if why := _why_asked(call, weighed):
        if approval is None or not _is_under_terms(approval, call):
            approval_id = await _ask(call, row, weighed, why)
            return CarriedOut(await _again(call, row), weighed, applied=False, approval_id=approval_id)
        if approval.state == ApprovalState.PENDING:
            return CarriedOut(row, weighed, applied=False, approval_id=approval.id)
        await approvals.save(call.tx, rules.use(approvals.to_domain(approval), row.hash))
    result = await kind.apply(call, row, weighed)
    if not await store.mark_applied(call.tx, row.id):
        raise WrongState(kind="plan", id=row.id, state="applied", action="another application")
    approval_id = approval.id if approval is not None else ""
    return CarriedOut(await _again(call, row), weighed, applied=True, approval_id=approval_id, result=result)


def check_scope(call: Call, row: Row[Any]) -> None:
    """Check that the caller may do what a plan does: to apply plans is not to do anything. Raises ScopeMissing."""
    scope = _KINDS[row.kind].scope
    if scope not in call.caller.scopes:
        raise ScopeMissing(scope=scope, method=f"a plan of kind {row.kind}")


def _check_standing(approval: Row[Any] | None, plan: Row[Any], now: datetime) -> None:
    if plan.applied_at is not None:
        raise WrongState(kind="plan", id=plan.id, state="applied", action="another application")
    state = ApprovalState(approval.state) if approval is not None else None
    if approval is not None and state is ApprovalState.REJECTED:
        raise ApprovalRejected(
            approval_id=approval.id, decider_id=approval.decider_id, comment=approval.comment or "no reason given"
        )
    if plan.state == PlanState.CANCELLED.value and state is not ApprovalState.CANCELLED:
        raise WrongState(kind="plan", id=plan.id, state="cancelled", action="an application")
    if plan.expires_at <= now:
        raise PlanStale(plan_id=plan.id, why=f"it expired at {instant_text(plan.expires_at)}")
    if approval is not None and rules.is_overdue(approvals.to_domain(approval), now):
        state = ApprovalState.EXPIRED
    if approval is not None and state in (ApprovalState.EXPIRED, ApprovalState.CANCELLED):
        raise PlanStale(plan_id=plan.id, why=f"its approval {approval.id} is {state.value}")


def _is_under_terms(approval: Row[Any], call: Call) -> bool:
    """Tell whether an approval was asked for as the policy now in force wants it; others' agreement is not enough."""
    demand = call.demand
    asked = (approval.policy_id, approvals.to_domain(approval).rule)
    return demand is None or asked == (demand.policy_id, demand.rule)


def _why_asked(call: Call, weighed: Weighed) -> str:
    """Return why a person must decide: the plan's kind, a policy, or what an agent would do for good."""
    if weighed.approval_reason:
        return weighed.approval_reason
    if call.demand is not None:
        return call.demand.reason
    if weighed.risk is Risk.HIGH and call.caller.principal_kind == "agent":
        return "it cannot be taken back, or reaches people, and an agent applies it"
    return ""


async def _difference(call: Call, kind: PlanKind, row: Row[Any], weighed: Weighed) -> str:
    if kind.difference is not None:
        return kind.difference(row, weighed) or "the facts have changed"
    return plan_rules.difference(await store.planned(call.tx, row.id), weighed)


async def _ask(call: Call, row: Row[Any], weighed: Weighed, why: str) -> str:
    """Request the approval of a plan; the plan lasts long enough for it to be decided and used."""
    if row.approval_id:  # it was asked for under other terms
        await approvals.cancel(call.tx, [(call.caller.org_id, row.approval_id)])
    demand = call.demand
    rule = demand.rule if demand is not None else Rule()
    expires_at = call.now + rule.sla
    request = NewApproval(
        org_id=call.caller.org_id,
        id=ids.mint("apr", call.now),
        subject_kind=store.SUBJECT,
        subject_id=row.id,
        title=weighed.title or row.title,
        subject_hash=row.hash,
        requester_id=call.caller.principal_id,
        details=dict(weighed.details) or _details(row, weighed, why),
        expires_at=expires_at,
        rule=rule,
        policy_id=demand.policy_id if demand is not None else "",
    )
    await approvals.create_many(call.tx, [request])
    await deliveries.emit(call.tx, [request.announcement(call.now)])
    await store.await_approval(call.tx, row.id, request.id, why, rule.longest(call.now) + USE_WITHIN)
    return request.id


def _details(row: Row[Any], weighed: Weighed, why: str) -> dict[str, Any]:
    shown = weighed.items[:_SHOWN_ITEMS]
    items = [{"record_id": one.record_id, "title": one.title, **plan_rules.plain(one)} for one in shown]
    return {
        "reason": why,
        "kind": row.kind,
        "risk": row.risk,
        "item_count": row.item_count,
        "excluded_count": row.excluded_count,
        "counts": dict(row.counts),
        "items": items,
    }


async def _again(call: Call, row: Row[Any]) -> Row[Any]:
    found = await store.get(call.tx, row.id)
    assert found is not None
    return found
