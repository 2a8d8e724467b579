"""What only the matcher waits for: on PostgreSQL it has it while whoever wrote it still waits for the disk."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from sqlalchemy import make_url

from core.clock import ManualClock
from core.store.database import Database
from core.store.events import events
from core.store.events.events import NewEvent
from core.store.session import PostgresqlSession
from core.store.transaction import Transaction

pytestmark = pytest.mark.anyio

EVENT = "evt_01kjprzb00aats7gr24n7fbkaz"
_STORED = "SELECT count(*) FROM events WHERE org_id = $1"
_WRITTEN = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
_ON_DISK = "SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn"


@pytest.fixture
async def careful(postgresql_url: str, postgresql_server: str, clock: ManualClock, anyio_backend: str) -> Database:
    """Return a database that waits for the disk, as none of the other tests' does."""
    url = make_url(postgresql_server).set(database=make_url(postgresql_url).database)
    operator = await asyncpg.connect(url.render_as_string(hide_password=False))
    await operator.execute(f'ALTER DATABASE "{url.database}" SET synchronous_commit = on')
    await operator.close()
    database = await Database.open(postgresql_url, clock)
    await database.create_schema()
    return database


async def _store(tx: Transaction) -> None:
    await events.store(tx, [NewEvent(EVENT, "api", "action", "form.submitted", {}, None, tx.now, "")])


async def _asked(database: Database, sql: str, *values: str) -> int:
    async with database.read("org_a") as tx:
        return int((await tx.fetch(sql, *values))[0][0])


async def test_the_matcher_has_an_event_before_the_disk_and_who_brought_it_only_then(
    careful: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher, goes_on, on_disk = careful.wakeups.event("matcher"), asyncio.Event(), PostgresqlSession.on_disk

    async def held(session: PostgresqlSession) -> None:
        await goes_on.wait()
        await on_disk(session)

    monkeypatch.setattr(PostgresqlSession, "on_disk", held)

    async def bring() -> None:
        async with careful.write("org_a") as tx:
            await _store(tx)

    try:
        bringing = asyncio.create_task(bring())
        await asyncio.wait_for(matcher.wait(), 10)
        matcher.clear()
        assert await _asked(careful, _STORED, "org_a") == 1
        written = await _asked(careful, _WRITTEN)
        assert not bringing.done()
        goes_on.set()
        await bringing
        assert await _asked(careful, _ON_DISK) >= written
        assert not matcher.is_set(), "it was told"
    finally:
        await careful.close()


async def test_what_others_wait_for_too_they_have_from_the_disk(
    careful: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_session: PostgresqlSession) -> None:
        raise AssertionError("it went ahead")

    monkeypatch.setattr(PostgresqlSession, "commit_ahead", never)
    try:
        async with careful.write("org_a") as tx:
            await _store(tx)
            tx.wake("engine")
        assert await _asked(careful, _STORED, "org_a") == 1
    finally:
        await careful.close()


async def test_what_failed_does_not_go_ahead(careful: Database) -> None:
    matcher = careful.wakeups.event("matcher")

    async def fail_unseen() -> None:
        async with careful.write("org_a") as tx:
            await _store(tx)
            with pytest.raises(asyncpg.PostgresError):
                await tx.fetch("SELECT no_such_column")

    try:
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await fail_unseen()
        assert not matcher.is_set()
        assert await _asked(careful, _STORED, "org_a") == 0
    finally:
        await careful.close()
