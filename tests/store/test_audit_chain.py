"""Sealing the audit log: every entry gets a place, in the order of commits, and nothing sealed can be touched."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import update

from core.clock import ManualClock
from core.domain.control.audit import Checker, Seal, line
from core.engine.sealer import Sealer
from core.store import migrate, retention
from core.store.control import audit
from core.store.database import ERRORS, Database
from core.store.retention import Kept

pytestmark = pytest.mark.anyio


async def write(database: Database, org: str, *summaries: str) -> None:
    assert isinstance(database.clock, ManualClock)
    for summary in summaries:
        database.clock.advance(timedelta(milliseconds=1))  # of what is of one instant, any may come first
        async with database.write(org) as tx:
            await audit.by_system(tx, org, "Test", subject_id="wfl_1", summary=summary)


async def sealed(database: Database, org: str) -> list[str]:
    await settle(database)
    async with database.read(org) as tx:
        return [row.summary for row in await audit.after(tx, 0, 100)]


async def settle(database: Database) -> None:
    sealer = Sealer(database)
    while await sealer.turn():
        pass


async def check(database: Database, org: str) -> list[str]:
    async with database.read(org) as tx:
        head = await audit.head(tx)
        rows = await audit.after(tx, 0, 1000)
    assert head is not None
    checker = Checker(after=Seal(head.anchor_sequence, head.anchor_hash), head=Seal(head.sequence, head.hash))
    for row in rows:
        checker.take(line(audit.entry_of(row), row.sequence, row.previous_hash, row.hash).encode() + b"\n")
    checker.finish()
    return [fault.message for fault in checker.faults]


async def test_entries_are_sealed_organization_by_organization(database: Database) -> None:
    await write(database, "org_a", "one", "two")
    await write(database, "org_b", "apart")
    async with database.read("org_a") as tx:
        assert (await audit.unsealed_count(tx), await audit.head(tx)) == (2, None)
    assert (await sealed(database, "org_a"), await sealed(database, "org_b")) == (["one", "two"], ["apart"])
    await write(database, "org_a", "three")
    assert await sealed(database, "org_a") == ["one", "two", "three"]
    assert [await check(database, org) for org in ("org_a", "org_b")] == [[], []]
    async with database.read("org_b") as tx:
        assert [row.sequence for row in await audit.after(tx, 0, 10)] == [1]
        assert await audit.unsealed_count(tx) == 0


async def test_a_transaction_that_is_given_up_leaves_no_gap(database: Database) -> None:
    await write(database, "org_a", "kept")
    with suppress(ZeroDivisionError):
        async with database.write("org_a") as tx:
            await audit.by_system(tx, "org_a", "Test", subject_id="", summary="given up")
            raise ZeroDivisionError
    await write(database, "org_a", "kept as well")
    assert await sealed(database, "org_a") == ["kept", "kept as well"]
    assert await check(database, "org_a") == []


async def test_who_commits_late_comes_later_in_the_chain_and_stops_nobody(postgresql_database: Database) -> None:
    database = postgresql_database
    async with database.write("org_a") as late:
        await audit.by_system(late, "org_a", "Test", subject_id="", summary="begun first")
        await write(database, "org_a", "committed first")
        assert await sealed(database, "org_a") == ["committed first"]
    assert await sealed(database, "org_a") == ["committed first", "begun first"]
    assert await check(database, "org_a") == []


async def test_many_sealers_at_once_make_one_chain(postgresql_database: Database) -> None:
    database = postgresql_database
    sealers = [Sealer(database) for _ in range(3)]
    for number in range(4):
        writers = (write(database, "org_a", f"{number} {part}") for part in range(4))
        await asyncio.gather(*writers, *(one.turn() for one in sealers))
    assert len(await sealed(database, "org_a")) == 16
    assert await check(database, "org_a") == []


async def test_what_was_left_unsealed_by_a_process_that_died_is_sealed_days_later(
    database: Database, clock: ManualClock
) -> None:
    await write(database, "org_a", "just before the end")
    clock.advance(timedelta(days=9))
    await write(database, "org_a", "after the restart")
    assert await sealed(database, "org_a") == ["just before the end", "after the restart"]


async def test_one_that_was_changed_in_the_store_is_found(database: Database) -> None:
    await write(database, "org_a", "one", "two", "three")
    await settle(database)
    async with database.write("org_a") as tx:  # this schema comes from the tables: it has no triggers
        await tx.run(update(audit.audit_entries).where(audit.audit_entries.c.sequence == 2).values(summary="2"))
    assert await check(database, "org_a") == ["entry 2 is not what its hash was made of"]


async def _touch(database: Database, sql: str) -> None:
    async with database.system() as tx:
        await tx.fetch(sql)


FORBIDDEN = (
    "UPDATE audit_entries SET summary = 'nothing happened' WHERE sequence = 1",
    "UPDATE audit_entries SET sequence = 7 WHERE sequence = 1",
    "UPDATE audit_entries SET summary = 'nothing happened', sequence = 3 WHERE sequence IS NULL",
    "DELETE FROM audit_entries WHERE sequence = 2",
    "DELETE FROM audit_entries WHERE sequence IS NULL",
    "TRUNCATE audit_entries",
)


async def test_the_database_itself_refuses_to_change_or_remove_entries(database_url: str, clock: ManualClock) -> None:
    database = await Database.open(database_url, clock)
    await migrate.upgrade(database)
    await write(database, "org_a", "one", "two")
    await settle(database)
    await write(database, "org_a", "three")
    for sql in FORBIDDEN:
        with pytest.raises(ERRORS):
            await _touch(database, sql)
    assert await sealed(database, "org_a") == ["one", "two", "three"]
    await database.close()


async def test_what_is_no_longer_kept_leaves_an_anchor_by_which_the_rest_is_checked(
    database_url: str, clock: ManualClock
) -> None:
    database = await Database.open(database_url, clock)
    await migrate.upgrade(database)
    await write(database, "org_a", "old", "old too")
    await write(database, "org_b", "old there")
    await settle(database)
    clock.advance(timedelta(days=40))
    await migrate.upgrade(database)
    await write(database, "org_a", "new")
    await settle(database)
    assert await retention.forget(database, Kept(0, 0, 0, audit_days=0)) == 0
    await retention.forget(database, Kept(0, 0, 0, audit_days=30))
    assert await sealed(database, "org_a") == ["new"]
    assert await sealed(database, "org_b") == []
    assert [await check(database, org) for org in ("org_a", "org_b")] == [[], []]
    async with database.read("org_a") as tx:
        head = await audit.head(tx)
    assert head is not None
    assert (head.sequence, head.anchor_sequence) == (3, 2)
    await write(database, "org_b", "goes on")
    assert await sealed(database, "org_b") == ["goes on"]
    assert await check(database, "org_b") == []
    await database.close()
