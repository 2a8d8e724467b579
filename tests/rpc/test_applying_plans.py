"""Plans of any kind through the API: applied exactly, once, and where somebody must agree, after that."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from sqlalchemy import Row

from core import ids, provisioning
from core.domain.control.plan import Item, Risk, Weighed
from core.domain.records.changes import Change
from core.rpc.approvals import plan_kinds
from core.rpc.approvals.plan_kinds import PlanKind
from core.rpc.call import Call
from core.store.control import plans
from core.store.records import records
from dripstone.v1 import approval_pb2, organization_pb2, plan_pb2, policy_pb2, record_pb2
from dripstone.v1.client import ApiError, Client
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

OPEN, AWAITING, APPLIED = plan_pb2.PLAN_STATE_OPEN, plan_pb2.PLAN_STATE_AWAITING_APPROVAL, plan_pb2.PLAN_STATE_APPLIED


async def _weigh(call: Call, row: Row[Any]) -> Weighed:
    return await weighed(call.tx, row.body)


async def weighed(tx: Any, body: dict[str, Any]) -> Weighed:
    items = []
    for record_id in body["ids"]:
        record = await records.get(tx, record_id)
        assert record is not None
        change = Change("job_title", record.fields.get("job_title"), "Boss")
        items.append(Item(record_id, "somebody", (change,), read=record.etag))
    return Weighed(f"Make {len(items)} people boss", items, risk=Risk(body["risk"]))


async def _apply(call: Call, row: Row[Any], found: Weighed) -> None:
    for item in found.items:
        cause = plan_kinds.cause(row.id)
        await records.update(call.tx, item.record_id, {"job_title": "Boss"}, actor="key_test", cause=cause)


@pytest.fixture(autouse=True)
def kind() -> Any:
    plan_kinds.register(PlanKind("promotion", "records:write", _weigh, _apply, method="WorkflowService.ApplyMigration"))
    yield
    plan_kinds.kinds().pop("promotion")  # type: ignore[attr-defined]


@pytest.fixture
async def clients(core: RunningCore) -> AsyncIterator[tuple[Client, Client]]:
    scopes = frozenset({"plans:apply", "plans:read", "records:write"})
    org = core.organization.org_id
    key = await provisioning.mint_key(core.core.database, org, "Agent", "agent", "", scopes)
    async with core.client() as boss, core.client(key) as agent:
        yield boss, agent


async def make(core: RunningCore, boss: Client, risk: str = "low", people: int = 2) -> str:
    found = []
    for number in range(people):
        request = record_pb2.UpsertRecordRequest(type="contact")
        request.fields.update({"email": f"p{number}@example.com"})
        found.append((await boss.records.UpsertRecord(request)).record.id)
    body = {"ids": found, "risk": risk}
    async with core.core.database.write(core.organization.org_id) as tx:
        plan_id = ids.mint("pln", tx.now)
        until = tx.now + timedelta(hours=24)
        await plans.keep(tx, plan_id, "promotion", await weighed(tx, body), body, by="key_test", until=until)
    return plan_id


async def apply(client: Client, plan_id: str, **more: Any) -> plan_pb2.Plan:
    return await client.approvals.ApplyPlan(plan_pb2.ApplyPlanRequest(plan_id=plan_id, **more))


async def refused(call: Any) -> ApiError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return ApiError.of(caught.value)


@pytest.mark.both_databases
async def test_a_plan_is_applied_exactly_and_once(core: RunningCore, clients: tuple[Client, Client]) -> None:
    boss, _ = clients
    plan_id = await make(core, boss)
    seen = await boss.approvals.GetPlan(plan_pb2.GetPlanRequest(plan_id=plan_id))
    assert (seen.state, seen.item_count, seen.counts["field.job_title"]) == (OPEN, 2, 2)
    assert seen.sample_items[0].changes[0].new_value.string_value == "Boss"
    assert (await refused(apply(boss, plan_id, plan_hash="sha256:other"))).reason == "PLAN_STALE"
    dry = await apply(boss, plan_id, validate_only=True)
    assert dry.state == APPLIED
    outcomes = await asyncio.gather(
        *(apply(boss, plan_id, plan_hash=seen.hash, request_id=f"r{n}") for n in range(4)), return_exceptions=True
    )
    reasons = Counter(
        ApiError.of(one).reason if isinstance(one, grpc.aio.AioRpcError) else "applied" for one in outcomes
    )
    assert reasons == {"applied": 1, "WRONG_STATE": 3}
    changes = await boss.records.ListRecordChanges(
        record_pb2.ListRecordChangesRequest(record_id=seen.sample_items[0].record_id)
    )
    assert [one.cause for one in changes.changes if one.field == "job_title"] == [seen.cause]
    listed = await boss.approvals.ListPlans(
        plan_pb2.ListPlansRequest(filter='state = "applied" AND kind = "promotion"')
    )
    assert [one.id for one in listed.plans] == [plan_id]
    assert (
        await refused(boss.approvals.CancelPlan(plan_pb2.CancelPlanRequest(plan_id=plan_id)))
    ).reason == "WRONG_STATE"


async def test_what_has_changed_since_is_told_and_nothing_is_done(
    core: RunningCore, clients: tuple[Client, Client]
) -> None:
    boss, _ = clients
    plan_id = await make(core, boss)
    seen = await boss.approvals.GetPlan(plan_pb2.GetPlanRequest(plan_id=plan_id))
    (first, second) = [one.record_id for one in seen.sample_items]
    update = record_pb2.UpdateRecordRequest(record_id=second)
    update.fields.update({"job_title": "Clerk"})
    await boss.records.UpdateRecord(update)
    error = await refused(apply(boss, plan_id))
    assert (error.reason, f"{second} is different from what it was" in error.message) == ("PLAN_STALE", True)
    record = await boss.records.GetRecord(record_pb2.GetRecordRequest(record_id=first))
    assert "job_title" not in record.fields
    cancelled = await boss.approvals.CancelPlan(plan_pb2.CancelPlanRequest(plan_id=plan_id))
    assert cancelled.state == plan_pb2.PLAN_STATE_CANCELLED
    assert (await refused(apply(boss, plan_id))).reason == "WRONG_STATE"
    late = await make(core, boss)
    core.clock.advance(timedelta(hours=24))
    assert (await refused(apply(boss, late))).reason == "PLAN_STALE"
    gone = await boss.approvals.GetPlan(plan_pb2.GetPlanRequest(plan_id=late))
    assert gone.state == plan_pb2.PLAN_STATE_EXPIRED


async def test_an_agent_does_what_cannot_be_taken_back_only_after_a_person_agreed(
    core: RunningCore, clients: tuple[Client, Client]
) -> None:
    boss, agent = clients
    plan_id = await make(core, boss, "high")
    asked = await apply(agent, plan_id, request_id="once")
    assert (asked.state, bool(asked.approval_reason)) == (AWAITING, True)
    assert (await apply(agent, plan_id, request_id="once")).approval_id == asked.approval_id
    async with core.client(core.approver_api_key) as person:
        approval = await person.approvals.GetApproval(approval_pb2.GetApprovalRequest(approval_id=asked.approval_id))
        assert (approval.subject_kind, approval.subject_hash, approval.caller_may_decide) == ("plan", asked.hash, True)
        forged = approval_pb2.DecideApprovalRequest(
            approval_id=approval.id, decision=approval_pb2.APPROVAL_DECISION_APPROVE, subject_hash="sha256:forged"
        )
        assert (await refused(person.approvals.DecideApproval(forged))).reason == "APPROVAL_MISMATCH"
        forged.subject_hash = asked.hash
        await person.approvals.DecideApproval(forged)
    assert (await apply(agent, plan_id, request_id="once")).state == APPLIED
    assert (await apply(agent, plan_id, request_id="once")).state == APPLIED  # the stored answer


async def test_a_policy_sees_how_much_a_plan_does_and_binds_the_approval_to_it(
    core: RunningCore, clients: tuple[Client, Client]
) -> None:
    boss, _ = clients
    policy = policy_pb2.Policy(
        id="many", description="Many people", effect=policy_pb2.POLICY_EFFECT_NEEDS_APPROVAL, enabled=True,
        methods=["ApprovalService.ApplyPlan"], when="action.count > 2",
        approval=policy_pb2.ApprovalRule(roles=[organization_pb2.ROLE_APPROVER]),
    )  # fmt: skip
    await boss.approvals.PutPolicy(policy_pb2.PutPolicyRequest(policy=policy))
    assert (await apply(boss, await make(core, boss))).state == APPLIED
    asked = await apply(boss, await make(core, boss, people=3))
    assert (asked.state, asked.approval_reason) == (AWAITING, "Many people")
    async with core.client(core.approver_api_key) as person:
        no = approval_pb2.DecideApprovalRequest(
            approval_id=asked.approval_id, decision=approval_pb2.APPROVAL_DECISION_REJECT, comment="Too many."
        )
        assert (await person.approvals.DecideApproval(no)).policy_id == "many"
    assert (await refused(apply(boss, asked.id))).reason == "APPROVAL_REJECTED"


async def test_a_plan_passes_the_policies_of_both_its_doors_and_their_present_terms(
    core: RunningCore, clients: tuple[Client, Client]
) -> None:
    boss, agent = clients

    async def put(policy_id: str = "door", method: str = "WorkflowService.ApplyMigration", **terms: Any) -> None:
        policy = policy_pb2.Policy(
            id=policy_id, description="Two look", effect=policy_pb2.POLICY_EFFECT_NEEDS_APPROVAL, enabled=True,
            methods=[method], approval=policy_pb2.ApprovalRule(**terms),
        )  # fmt: skip
        await boss.approvals.PutPolicy(policy_pb2.PutPolicyRequest(policy=policy))

    plan_id = await make(core, boss, "high")
    weak = await apply(agent, plan_id)  # asked for by an agent, under no policy
    async with core.client(core.approver_api_key) as person:
        yes = approval_pb2.DecideApprovalRequest(decision=approval_pb2.APPROVAL_DECISION_APPROVE)
        yes.approval_id = weak.approval_id
        await person.approvals.DecideApproval(yes)
        await put(roles=[organization_pb2.ROLE_APPROVER])
        strong = await apply(agent, plan_id)
        assert (strong.state, strong.approval_id == weak.approval_id) == (AWAITING, False)
        await put(roles=[organization_pb2.ROLE_APPROVER, organization_pb2.ROLE_ADMIN])
        again = await apply(agent, plan_id)
        asked = await person.approvals.GetApproval(approval_pb2.GetApprovalRequest(approval_id=strong.approval_id))
        assert (again.state, asked.state) == (AWAITING, approval_pb2.APPROVAL_STATE_CANCELLED)
        # What the other door wants is wanted as well, and neither takes the other's place.
        await put("other-door", "ApprovalService.ApplyPlan", roles=[organization_pb2.ROLE_APPROVER])
        assert (await apply(agent, plan_id)).approval_id == again.approval_id
        yes.approval_id = again.approval_id
        await person.approvals.DecideApproval(yes)
        more = await apply(agent, plan_id)
        assert (more.state, more.approval_id == again.approval_id) == (AWAITING, False)
        assert (await apply(agent, plan_id)).approval_id == more.approval_id
        yes.approval_id = more.approval_id
        assert (await person.approvals.DecideApproval(yes)).policy_id == "other-door"
        assert (await apply(agent, plan_id)).state == APPLIED
        for used in (again, more):
            request = approval_pb2.GetApprovalRequest(approval_id=used.approval_id)
            assert (await person.approvals.GetApproval(request)).state == approval_pb2.APPROVAL_STATE_USED
