"""Handlers of ApprovalService: how much principals may do a day, and what is used of it."""

from __future__ import annotations

from core.domain.control.budget import KINDS, LARGEST, METRICS, UNLIMITED, day_of, reset_time
from core.domain.errors import Invalid, NotFound, Violation
from core.domain.nearest import did_you_mean
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.store.agents import agents
from core.store.control import budgets as store
from core.store.control.budgets import Spender
from core.store.organizations import api_keys, members
from core.store.paging import decode_token, encode_token, page_size
from dripstone.v1 import policy_pb2 as pb


async def set_budget(request: pb.SetBudgetRequest, call: Call) -> pb.Budget:
    """Set how much a principal, or each principal of a kind, may do a day."""
    given = request.budget
    problems = []
    if given.metric not in METRICS:
        hint = did_you_mean(given.metric, tuple(METRICS), f"It is one of {', '.join(METRICS)}.")
        message = f"there is no metric {given.metric[:40]}"
        problems.append(Violation("budget.metric", "UNKNOWN_VALUE", message, hint))
    if not UNLIMITED <= given.daily_limit <= LARGEST:
        hint = "Give 0 or more, or -1 to take the budget away."
        problems.append(Violation("budget.daily_limit", "OUT_OF_RANGE", "is no limit", hint))
    if not given.principal_id:
        hint = f"Give the id of a principal or an agent, or a kind: {', '.join(KINDS)}."
        problems.append(Violation("budget.principal_id", "REQUIRED", "says whose budget it is", hint))
    if problems:
        raise Invalid(*problems)
    if given.principal_id not in KINDS:
        await _spender(call, given.principal_id)
    await store.put(call.tx, given.principal_id, given.metric, given.daily_limit)
    return await _message(call, given.principal_id, given.metric, given.daily_limit, given.principal_id)


async def list_budgets(request: pb.ListBudgetsRequest, call: Call) -> pb.ListBudgetsResponse:
    """Return the budgets there are, or those that bind one principal, with what is used of them today."""
    scope = f"budgets|{request.principal_id}"
    spender = await _spender(call, request.principal_id) if request.principal_id else None
    rows = await store.listed(call.tx, spender.names if spender else ())
    if spender is not None:
        limits = {(row.principal_id, row.metric): row.daily_limit for row in rows}
        rows = [
            row
            for row in rows
            if (bound := store.binding(limits, spender, row.metric)) is not None and bound[0] == row.principal_id
        ]
    start = int(decode_token(request.page_token, scope)) if request.page_token else 0
    end = start + page_size(request.page_size)
    found = []
    for row in rows[start:end]:
        account = spender.account(row.principal_id) if spender else row.principal_id
        found.append(await _message(call, row.principal_id, row.metric, row.daily_limit, account))
    return pb.ListBudgetsResponse(
        budgets=found, next_page_token=encode_token(str(end), scope) if len(rows) > end else ""
    )


async def _message(call: Call, principal_id: str, metric: str, limit: int, account: str) -> pb.Budget:
    zone = await store.zone_of_organization(call.tx)
    return pb.Budget(
        principal_id=principal_id,
        metric=metric,
        daily_limit=limit,
        used_today=await store.used(call.tx, account, metric, day_of(call.now, zone)),
        reset_time=to_timestamp(reset_time(call.now, zone)),
    )


async def _spender(call: Call, principal_id: str) -> Spender:
    """Return a member, the principal of a key, or an agent. Raises NotFound."""
    if await members.get(call.tx, principal_id) is not None:
        return Spender(principal_id, "member")
    keys = await api_keys.of_principal(call.tx, principal_id)
    if keys:
        return Spender(principal_id, keys[0].principal_kind, keys[0].agent_id)
    if await agents.get_agent(call.tx, principal_id) is not None:
        return Spender(principal_id, "agent", principal_id)
    raise NotFound(kind="principal", id=principal_id)
