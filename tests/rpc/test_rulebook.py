"""How soon a policy is in force: at once in its own process, within half a minute in one that is not told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from core.clock import ManualClock
from core.domain.control.policy import Effect, Policy
from core.rpc.admission.rulebook import Rulebook
from core.store.control import policies
from core.store.database import Database
from core.store.transaction import Transaction

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


class Slow:
    """A transaction whose first answer comes late."""

    def __init__(self, tx: Transaction, meanwhile: Callable[[], Awaitable[None]]):
        self._tx = tx
        self._meanwhile: Callable[[], Awaitable[None]] | None = meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    async def all(self, statement: Any) -> Any:
        rows = await self._tx.all(statement)
        if self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return rows


async def test_what_was_read_before_a_change_is_not_remembered_after_it(database: Database) -> None:
    book = Rulebook()
    assert await ids(book, database) == []
    async with database.write("org_b") as tx:  # everything is to be read anew
        await policies.put(tx, Policy("other", "d", Effect.DENY), "")

    async def meanwhile() -> None:
        await put(database, "new")
        assert await ids(book, database, "org_c") == []  # who heard of the change is another caller

    async with database.read(ORG) as tx:
        await book.of(database, cast(Transaction, Slow(tx, meanwhile)))
    assert await ids(book, database) == ["new"]


async def test_what_is_read_while_it_changes_is_not_remembered(database: Database) -> None:
    book = Rulebook()

    async def change() -> None:
        async with database.write(ORG) as tx:
            await policies.put(tx, Policy("never", "d", Effect.DENY), "")
            assert [one.id for one in (await book.of(database, tx)).policies] == ["never"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await change()
    assert await ids(book, database) == []
