"""How transactions begin: on whichever connection, for whichever organization, and what a query is bound to."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import Select, select
from sqlalchemy.exc import DBAPIError

from core.clock import ManualClock
from core.store import transaction
from core.store.database import Database
from core.store.organizations.organizations import organizations
from core.store.transaction import EVERY_ORGANIZATION
from core.store.workflows.enrollments import enrollments
from core.store.workflows.workflows import workflows

pytestmark = pytest.mark.anyio

_ORG = "SELECT current_setting('app.org'), current_setting('transaction_read_only')"


@pytest.mark.parametrize("org", ["org_a", "o'rg", "back\\slash", "';--", EVERY_ORGANIZATION])
async def test_a_transaction_begins_for_its_organization_and_no_other(postgresql_database: Database, org: str) -> None:
    async with postgresql_database.write(org) as tx:
        assert [tuple(row) for row in await tx.fetch(_ORG)] == [(org, "off")]
    async with postgresql_database.read(org) as tx:
        assert [tuple(row) for row in await tx.fetch(_ORG)] == [(org, "on")]
    async with postgresql_database.system() as tx:
        assert [tuple(row) for row in await tx.fetch(_ORG)] == [(EVERY_ORGANIZATION, "off")]


async def test_a_reader_cannot_write(database: Database) -> None:
    async with database.read("org_a") as tx:
        with pytest.raises(DBAPIError):
            await tx.insert(organizations, [{"org_id": "org_a", "display_name": "x"}])


async def test_what_the_server_closed_is_replaced_before_anybody_notices(postgresql_database: Database) -> None:
    held, closed = [], asyncio.Event()
    async with AsyncExitStack() as open_ones:
        for _ in range(3):
            held.append(await open_ones.enter_async_context(postgresql_database.system()))
        drivers = [await tx.driver() for tx in held]
        pids = [driver.get_server_pid() for driver in drivers]
    for driver in drivers:
        driver.add_termination_listener(lambda _: all(one.is_closed() for one in drivers) and closed.set())
    async with postgresql_database.read("org_a") as tx:
        await tx.fetch("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS gone(pid)", pids)
    async with asyncio.timeout(10):
        await closed.wait()
    for _ in pids:
        async with postgresql_database.system() as tx:
            assert (await tx.driver()).get_server_pid() not in pids


async def test_what_a_transaction_wakes_hears_of_it_once(postgresql_url: str, clock: ManualClock) -> None:
    here, there = [await Database.open(postgresql_url, clock) for _ in range(2)]
    try:
        own, other = here.wakeups.event("engine"), there.wakeups.event("engine")
        async with asyncio.timeout(10):
            while not other.is_set():  # the first may be sent before the other listens
                async with here.write("org_a") as tx:
                    tx.wake("engine")
                assert own.is_set()
                own.clear()
                await asyncio.sleep(0)
        other.clear()
        answered = here.wakeups.event("matcher")
        async with there.write("org_a") as tx:
            tx.wake("matcher")
        async with asyncio.timeout(10):
            await answered.wait()  # by then whatever it said before would have come back to it
        assert not own.is_set()
    finally:
        await here.close()
        await there.close()


def _queries() -> list[Select[tuple[object, ...]]]:
    other = enrollments.alias()
    joined = select(enrollments.c.id).join(workflows, workflows.c.id == enrollments.c.workflow_id)
    return [
        select(enrollments).where(enrollments.c.id == "x"),
        joined,
        select(enrollments.c.id, workflows.c.id).where(workflows.c.id == enrollments.c.workflow_id),
        select(enrollments.c.id).select_from(enrollments.join(workflows, workflows.c.id == enrollments.c.workflow_id)),
        select(enrollments.c.id).where(enrollments.c.id.in_(select(workflows.c.id).scalar_subquery())),
        select(other.c.id),
    ]


@pytest.mark.parametrize("number", range(6))
async def test_a_query_is_bound_to_its_organization_the_second_time_as_well(database: Database, number: int) -> None:
    async with database.read("org_a") as tx:
        first, second, anew = (str(tx._scoped(query)) for query in (*[_queries()[number]] * 2, _queries()[number]))
    sources = [leaf for source in _queries()[number].get_final_froms() for leaf in transaction._leaves(source)]
    assert first == second == anew
    assert first.count("org_id = ") == len(sources)
