"""Plans and their items as rows, on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.domain.control.approval import ApprovalState
from core.domain.control.plan import Item, PlanState, Risk, Weighed, difference
from core.domain.records.changes import Change
from core.store.control import approvals, plans
from core.store.control.approvals import NewApproval
from core.store.database import Database
from tests.conftest import START
from tests.databases import somebody_waits

pytestmark = pytest.mark.anyio

ORG = "org_a"
UNTIL = START + timedelta(hours=24)
ITEMS = [Item(f"cnt_{number}", f"Person {number}", (Change("tier", None, "A"),)) for number in range(5)]
WEIGHED = Weighed("Set tier of 5", [*ITEMS, Item("cnt_9", "Nobody", excluded_reason="it is closed")], risk=Risk.MEDIUM)


async def keep(database: Database, plan_id: str = "pln_1") -> None:
    async with database.write(ORG) as tx:
        await plans.keep(tx, plan_id, "bulk_update", WEIGHED, {"filter": "tier=A"}, by="key_1", until=UNTIL)


async def state_of(database: Database, plan_id: str = "pln_1") -> str:
    async with database.read(ORG) as tx:
        row = await plans.get(tx, plan_id)
    assert row is not None
    return str(row.state)


async def test_a_plan_is_kept_with_its_items_and_applied_once(database: Database) -> None:
    await keep(database)
    async with database.write(ORG) as tx:
        row = await plans.get(tx, "pln_1", lock=True)
        assert row is not None
        assert (row.hash, row.body, row.expires_at, row.applied_at) == (
            WEIGHED.hash(),
            {"filter": "tier=A"},
            UNTIL,
            None,
        )
        assert (row.item_count, row.excluded_count, row.counts, row.risk) == (5, 1, {"field.tier": 5}, "medium")
        assert await plans.mark_applied(tx, "pln_1")
        assert not await plans.mark_applied(tx, "pln_1")
    assert await state_of(database) == PlanState.APPLIED
    async with database.read("org_b") as tx:
        assert await plans.get(tx, "pln_1") is None
        assert await plans.items(tx, "pln_1", 10) == ([], "")


async def test_items_come_in_pages_and_by_sort(database: Database) -> None:
    await keep(database)
    async with database.read(ORG) as tx:
        first, token = await plans.items(tx, "pln_1", 4)
        rest, end = await plans.items(tx, "pln_1", 4, token)
        left_out, _ = await plans.items(tx, "pln_1", 4, excluded=True)
        planned = await plans.planned(tx, "pln_1")
    assert [row.record_id for row in (*first, *rest)] == ["cnt_0", "cnt_1", "cnt_2", "cnt_3", "cnt_4", "cnt_9"]
    assert ([row.excluded_reason for row in left_out], end) == (["it is closed"], "")
    now = Weighed("x", [*ITEMS[1:], Item("cnt_9", changes=(Change("tier", "B", "A"),)), Item("cnt_7")])
    assert difference(planned, now) == (
        "cnt_0 is no longer concerned; cnt_7 is concerned now; cnt_9 is different from what it was"
    )


@pytest.mark.parametrize(
    ("approval", "plan"),
    [
        (ApprovalState.EXPIRED, PlanState.EXPIRED),
        (ApprovalState.CANCELLED, PlanState.CANCELLED),
    ],
)
async def test_a_plan_follows_its_approval(
    database: Database, clock: ManualClock, approval: ApprovalState, plan: PlanState
) -> None:
    await keep(database)
    request = NewApproval(ORG, "apr_1", plans.SUBJECT, "pln_1", "Five", "h", "key_1", {}, START + timedelta(hours=1))
    async with database.write(ORG) as tx:
        await approvals.create_many(tx, [request])
        await plans.await_approval(tx, "pln_1", "apr_1", "many", UNTIL)
    assert await state_of(database) == PlanState.AWAITING_APPROVAL
    if approval is ApprovalState.EXPIRED:
        clock.advance(timedelta(hours=1))
        async with database.system() as tx:
            assert await approvals.expire_due(tx, tx.now) == 1
    else:
        async with database.write(ORG) as tx:
            await approvals.cancel(tx, [(ORG, "apr_1")])
    assert await state_of(database) == plan


async def test_upkeep_holds_a_plan_before_its_approval_as_whoever_applies_it_does(
    postgresql_database: Database, clock: ManualClock
) -> None:
    database = postgresql_database
    await keep(database)
    request = NewApproval(ORG, "apr_1", plans.SUBJECT, "pln_1", "Five", "h", "key_1", {}, START + timedelta(hours=1))
    async with database.write(ORG) as tx:
        await approvals.create_many(tx, [request])
        await plans.await_approval(tx, "pln_1", "apr_1", "many", UNTIL)
    clock.advance(timedelta(hours=1))

    async def upkeep() -> int:
        async with database.system() as tx:
            return await approvals.expire_due(tx, tx.now)

    async with database.write(ORG) as tx:
        await plans.get(tx, "pln_1", lock=True)
        expiring = asyncio.ensure_future(upkeep())
        await somebody_waits(database)
        assert await approvals.get(tx, "apr_1", lock=True) is not None  # nobody holds it and waits for the plan
    assert await expiring == 1
    assert await state_of(database) == PlanState.EXPIRED


async def test_plans_whose_time_is_over_are_closed(database: Database, clock: ManualClock) -> None:
    await keep(database)
    clock.advance(timedelta(hours=24))
    async with database.system() as tx:
        assert await plans.expire_due(tx) == 1
        assert await plans.expire_due(tx) == 0
    assert await state_of(database) == PlanState.EXPIRED
    clock.advance(plans.KEPT_FOR - timedelta(minutes=1))
    await keep(database, "pln_new")
    for at_all in (0, 1, 0):
        async with database.system() as tx:
            assert await plans.forget_old(tx) == at_all
        clock.advance(timedelta(minutes=2))
    async with database.read(ORG) as tx:
        assert (await plans.items(tx, "pln_1", 10))[0] == []
        assert len((await plans.items(tx, "pln_new", 10))[0]) == 6
