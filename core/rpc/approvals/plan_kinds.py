"""The kinds of plans, and the one way in which a plan of any kind is kept, weighed again and applied.

A kind says two things: what a plan would do now (`weigh`, which looks, and holds what it will change), and how to do
it (`apply`). Everything else is the same for all: the hash, expiry, the approval of a person, and that it happens once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from core import ids
from core.domain.control import approval as rules
from core.domain.control import plan as plan_rules
from core.domain.control.approval import ApprovalState, Rule
from core.domain.control.plan import LASTS, PlanState, Risk, Weighed
from core.domain.control.policy import Demand
from core.domain.errors import ApprovalRejected, NotFound, PlanStale, ScopeMissing, WrongState
from core.domain.frozen import frozen
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


@frozen
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


@frozen
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
    """Apply a plan exactly as it was previewed, or ask for an approval that it needs; the caller holds its row.

    Where several policies want one each, they are asked for one after the other, and all of them are used.

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
    if _is_asked(call, weighed):
        agreed, unmet = await _agreed(call, row)
        if unmet:
            if approval is not None and approval.state == ApprovalState.PENDING and _meets(approval, unmet):
                return CarriedOut(row, weighed, applied=False, approval_id=approval.id)
            approval_id = await _ask(call, row, weighed, unmet[0])
            return CarriedOut(await _again(call, row), weighed, applied=False, approval_id=approval_id)
        for one in agreed:
            await approvals.save(call.tx, rules.use(approvals.to_domain(one), row.hash))
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


def _meets(approval: Row[Any], wanted: Sequence[Demand | None]) -> bool:
    """Tell whether an approval was asked for as a policy now in force wants it; others' agreement is not enough."""
    rule = approvals.to_domain(approval).rule
    return any(one is None or (approval.policy_id, rule) == (one.policy_id, one.rule) for one in wanted)


async def _agreed(call: Call, row: Row[Any]) -> tuple[list[Row[Any]], list[Demand | None]]:
    """Return the approvals that are there for what policies want, and what is still wanted.

    Where no policy wants one, yet somebody must agree, it is the plan's own: None.
    """
    asked = await approvals.all_of_subject(call.tx, store.SUBJECT, row.id, lock=True)
    there = [one for one in asked if one.state == ApprovalState.APPROVED and one.subject_hash == row.hash]
    if not call.demands:
        own = [one for one in there if one.id == row.approval_id]
        return own, [] if own else [None]
    found = [(demand, next((one for one in there if _meets(one, [demand])), None)) for demand in call.demands]
    unmet = [demand for demand, approval in found if approval is None]
    return [approval for _, approval in found if approval is not None], [*unmet]


def _is_asked(call: Call, weighed: Weighed) -> bool:
    """Tell whether somebody must agree: for the plan's kind, a policy, or what an agent would do for good."""
    for_good = weighed.risk is Risk.HIGH and call.caller.principal_kind == "agent"
    return bool(weighed.approval_reason or call.demands or for_good)


def _why(weighed: Weighed, demand: Demand | None) -> str:
    usual = "it cannot be taken back, or reaches people, and an agent applies it"
    return weighed.approval_reason or (demand.reason if demand is not None else usual)


async def _difference(call: Call, kind: PlanKind, row: Row[Any], weighed: Weighed) -> str:
    if kind.difference is not None:
        return kind.difference(row, weighed) or "the facts have changed"
    return plan_rules.difference(await store.planned(call.tx, row.id), weighed)


async def _ask(call: Call, row: Row[Any], weighed: Weighed, demand: Demand | None) -> str:
    """Request the approval of a plan; the plan lasts long enough for it to be decided and used."""
    if row.approval_id:  # if it still waits, it was asked for under terms that hold no longer
        await approvals.cancel(call.tx, [(call.caller.org_id, row.approval_id)])
    why = _why(weighed, demand)
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
