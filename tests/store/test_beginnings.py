"""How transactions begin: on whichever connection, and for whichever organization."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from core.clock import ManualClock
from core.store.database import ERRORS, Database
from core.store.organizations.organizations import organizations
from core.store.transaction import EVERY_ORGANIZATION

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
    with pytest.raises(ERRORS):
        async with database.read("org_a") as tx:
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
