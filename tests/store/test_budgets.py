"""Budgets as rows, on both databases: taken together with the effect, given back with it, never passed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.domain.errors import BudgetExhausted
from core.provisioning import create_organization
from core.store.control import budgets
from core.store.control.budgets import Spender
from core.store.database import Database

pytestmark = pytest.mark.anyio

AGENT = Spender("key_a", "agent", "agt_a")


async def organization(database: Database, zone: str = "Europe/Berlin", **limits: int) -> str:
    org = (await create_organization(database, "Acme", zone)).org_id
    async with database.write(org) as tx:
        for name, limit in limits.items():
            whose, _, metric = name.partition("__")
            await budgets.put(tx, whose, metric, limit)
    return org


async def charge(database: Database, org: str, spender: Spender = AGENT, **spent: int) -> None:
    async with database.write(org) as tx:
        await budgets.charge(tx, spender, spent)


async def test_no_more_is_taken_than_there_is_by_thirty_two_callers_at_once(database: Database) -> None:
    org = await organization(database, key_a__enrollments=50)
    outcomes = await asyncio.gather(
        *(charge(database, org, enrollments=1 + number % 4) for number in range(32)), return_exceptions=True
    )
    taken = sum(1 + number % 4 for number, outcome in enumerate(outcomes) if outcome is None)
    assert taken <= 50
    assert taken > 46  # whoever was refused wanted more than was left
    assert {type(outcome) for outcome in outcomes} == {type(None), BudgetExhausted}
    async with database.read(org) as tx:
        with pytest.raises(BudgetExhausted, match=f"{taken} of the 50 a day"):
            await budgets_over(database, org)
        assert await budgets.limits(tx, AGENT.names) == {("key_a", "enrollments"): 50}


async def budgets_over(database: Database, org: str) -> None:
    await charge(database, org, enrollments=51)


async def test_a_call_that_is_taken_back_gives_its_share_back(database: Database) -> None:
    org = await organization(database, key_a__writes=1, key_a__records=1)
    with pytest.raises(BudgetExhausted):  # the second charge takes the first one back with it
        await charge(database, org, records=1, writes=2)
    await charge(database, org, records=1, writes=1)
    with pytest.raises(BudgetExhausted):
        await charge(database, org, writes=1)


async def test_a_refusal_says_what_would_be_allowed_and_when(database: Database) -> None:
    org = await organization(database, agent__enrollments=100)
    await charge(database, org, enrollments=86)
    with pytest.raises(BudgetExhausted) as caught:
        await charge(database, org, enrollments=40)
    assert caught.value.message == (
        "14 of these 40 contacts may be enrolled today: "
        "86 of the 100 a day that the budget of each agent allows are used."
    )
    assert caught.value.variables["left"] == "14"
    assert caught.value.variables["reset_time"] == "2026-03-02T23:00:00.000Z"  # midnight in Berlin
    assert (
        caught.value.way_out
        == "Do no more than 14 today, or go on after 2026-03-02T23:00:00.000Z; an admin sets budgets."
    )


async def test_the_day_is_the_organizations_and_a_new_one_begins_anew(database: Database, clock: ManualClock) -> None:
    org = await organization(database, key_a__writes=1)
    await charge(database, org, writes=1)
    clock.advance(timedelta(hours=14))  # 23:00 UTC, midnight in Berlin
    await charge(database, org, writes=1)
    clock.advance(timedelta(days=60))
    async with database.system() as tx:
        assert await budgets.forget_old(tx) == 2


async def test_the_closest_budget_binds_and_keys_of_an_agent_share_theirs(database: Database) -> None:
    org = await organization(database, agent__writes=2, agt_a__records=3, key_b__writes=5)
    await charge(database, org, Spender("key_a", "agent", "agt_a"), writes=1, records=2)
    await charge(database, org, Spender("key_c", "agent", "agt_a"), writes=1)
    for spender, spent in (
        (Spender("key_a", "agent", "agt_a"), "writes"),
        (Spender("key_c", "agent", "agt_a"), "records"),
    ):
        with pytest.raises(BudgetExhausted):
            await charge(database, org, spender, **{spent: 2})
    await charge(database, org, Spender("key_b", "agent", "agt_b"), writes=5)  # its own, not that of its kind
    await charge(database, org, Spender("mem_1", "member"), writes=1_000)  # bound by none


async def note(database: Database, org: str, amount: float) -> None:
    async with database.write(org) as tx:
        await budgets.note(tx, AGENT, "cost", amount)


async def test_what_is_done_already_is_counted_past_the_limit_and_stops_what_follows(database: Database) -> None:
    org = await organization(database, key_a__cost=10)
    async with database.write(org) as tx:
        await budgets.require(tx, AGENT, "cost")
    spent = (note(database, org, 0.4) for _ in range(32))  # 12.8, of which each by itself is less than a unit
    await asyncio.gather(*spent)
    async with database.read(org) as tx:
        with pytest.raises(BudgetExhausted, match="No more units of cost may be spent today: 12 of the 10 a day"):
            await budgets.require(tx, AGENT, "cost")
        await budgets.require(tx, Spender("key_z", "agent"), "cost")
