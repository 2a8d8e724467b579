"""How transactions begin: on whichever connection, and for whichever organization."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import asyncpg
import pytest

from core.clock import ManualClock
from core.store import postgresql, wakeups
from core.store.database import ERRORS, Database
from core.store.organizations.organizations import organizations
from core.store.transaction import EVERY_ORGANIZATION
from tests.databases import somebody_waits
from tests.store.effort import counted_trips

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


async def test_who_reads_on_a_connection_sees_their_own_organization_whoever_had_it_before(
    postgresql_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips = counted_trips(monkeypatch, postgresql_database)
    made = []
    turns = [("a", False), ("a", False), ("b", False), ("a", True), ("b", False), ("*", False), ("a", False)]
    for org, writes in turns:
        trips.clear()
        async with postgresql_database.write(org) if writes else postgresql_database.read(org) as tx:
            (seen,) = await tx.fetch(_ORG + ", pg_backend_pid()")
        assert tuple(seen)[:2] == (org, "off" if writes else "on")
        made.append((seen[2], len(trips)))
    assert len({pid for pid, _ in made}) == 1, "one connection for all of them"
    assert [count for _, count in made][1:] == [1, 2, 3, 1, 2, 2], "who reads on for the same one begins nothing"


@pytest.mark.parametrize("begin", [postgresql.beginning, postgresql.showing])
async def test_a_beginning_that_is_given_up_leaves_nothing_to_who_comes_next(
    begin: Callable[[str], str], postgresql_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = postgresql_database.write if begin is postgresql.beginning else postgresql_database.read

    async def read() -> None:
        async with begun("org_a") as tx:
            assert [org for org, _ in await tx.fetch(_ORG)] == ["org_a"]

    async with begun("org_b") as tx:
        await tx.fetch("SELECT 1")
    with monkeypatch.context() as slow:
        sleepy = begin("org_a").rstrip(";") + "; SELECT pg_sleep(60)"
        slow.setattr(postgresql, begin.__name__, lambda _org: sleepy)
        reading = asyncio.create_task(read())
        await somebody_waits(postgresql_database, what_for="Timeout")
        reading.cancel()
        await asyncio.wait([reading])
    await read()


async def test_wakes_are_exchanged_again_after_the_driver_failed(
    postgresql_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, failed = asyncpg.connect, asyncio.Event()

    async def fail_once(*address: Any, **settings: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise asyncpg.InternalClientError("the session ended at the wrong moment")
        return await connect(*address, **settings)

    monkeypatch.setattr(wakeups, "_RECONNECT_SECONDS", 0)
    monkeypatch.setattr(wakeups.asyncpg, "connect", fail_once)
    here, there = [await Database.open(postgresql_url, clock) for _ in range(2)]
    try:
        heard = [one.wakeups.event("engine") for one in (here, there)]
        async with asyncio.timeout(10):
            while not all(event.is_set() for event in heard):
                here.wakeups.signal({"engine"})
                there.wakeups.signal({"engine"})
                for event in heard:
                    event.clear()  # from now on, by what the other said
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        for event in heard:
                            await event.wait()
        assert failed.is_set()
    finally:
        await here.close()
        await there.close()


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
