"""How soon a policy is in force: at once in its own process, within half a minute in one that is not told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.domain.control.policy import Effect, Policy
from core.rpc.admission.rulebook import Rulebook
from core.store.control import policies
from core.store.database import Database

pytestmark = pytest.mark.anyio

ORG = "org_a"


async def ids(book: Rulebook, database: Database, org: str = ORG) -> list[str]:
    async with database.read(org) as tx:
        return [policy.id for policy in (await book.of(database, tx)).policies]


async def put(database: Database, policy_id: str, *, enabled: bool = True) -> None:
    async with database.write(ORG) as tx:
        await policies.put(tx, Policy(policy_id, "d", Effect.DENY, enabled=enabled), "")


async def test_a_change_is_seen_at_once_here_and_within_half_a_minute_anywhere(
    database: Database, database_url: str, clock: ManualClock
) -> None:
    here, there = Rulebook(), Rulebook()
    other = await Database.open(database_url, clock)
    try:
        assert await ids(here, database) == await ids(there, other) == []
        await put(database, "first")
        await put(database, "asleep", enabled=False)
        assert await ids(here, database) == ["first"]
        assert await ids(here, database, "org_b") == []
        clock.advance(timedelta(seconds=30))
        assert await ids(there, other) == ["first"]
    finally:
        await other.close()
    async with database.write(ORG) as tx:
        await policies.remove(tx, "first")
    assert await ids(here, database) == []


async def test_what_is_read_while_it_changes_is_not_remembered(database: Database) -> None:
    book = Rulebook()
    async with database.write(ORG) as tx:
        await policies.put(tx, Policy("never", "d", Effect.DENY), "")
        assert [one.id for one in (await book.of(database, tx)).policies] == ["never"]
        await tx.connection.rollback()
    assert await ids(book, database) == []
