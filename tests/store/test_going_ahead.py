"""What only the matcher waits for: it has it while whoever wrote it still waits for the disk."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from core.clock import ManualClock
from core.store import idempotency, sqlite_disk
from core.store.database import Database
from core.store.events import events
from core.store.session import PostgresqlSession
from core.store.sqlite_session import SqliteSession
from tests.store.bringing import EVENT, STORED, asked, opened, store

pytestmark = pytest.mark.anyio

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


@pytest.fixture
async def file(tmp_path: Path, clock: ManualClock, anyio_backend: str) -> Database:
    return await opened(tmp_path, clock)


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
            await store(tx)

    try:
        bringing = asyncio.create_task(bring())
        await asyncio.wait_for(matcher.wait(), 10)
        matcher.clear()
        assert await asked(careful, STORED, "org_a") == 1
        written = await asked(careful, _WRITTEN)
        assert not bringing.done()
        goes_on.set()
        await bringing
        assert await asked(careful, _ON_DISK) >= written
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
            await store(tx)
            tx.wake("engine")
        assert await asked(careful, STORED, "org_a") == 1
    finally:
        await careful.close()


async def test_what_failed_does_not_go_ahead(careful: Database) -> None:
    matcher = careful.wakeups.event("matcher")

    async def fail_unseen() -> None:
        async with careful.write("org_a") as tx:
            await store(tx)
            with pytest.raises(asyncpg.PostgresError):
                await tx.fetch("SELECT no_such_column")

    try:
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await fail_unseen()
        assert not matcher.is_set()
        assert await asked(careful, STORED, "org_a") == 0
    finally:
        await careful.close()


async def test_the_matcher_has_the_file_while_who_brought_an_event_waits_for_the_disk(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher, goes_on, on_disk = file.wakeups.event("matcher"), asyncio.Event(), SqliteSession.on_disk

    async def held(session: SqliteSession) -> None:
        await goes_on.wait()
        await on_disk(session)

    async def bring() -> None:
        async with file.write("org_a") as tx:
            await store(tx)

    try:
        with monkeypatch.context() as patched:
            patched.setattr(SqliteSession, "on_disk", held)
            bringing = asyncio.create_task(bring())
            await asyncio.wait_for(matcher.wait(), 10)
            matcher.clear()
        async with file.system() as tx:
            assert await events.take_unmatched(tx, "org_a", EVENT)
        assert not bringing.done()
        goes_on.set()
        await bringing
        assert not matcher.is_set(), "it was told twice"
    finally:
        await file.close()


@pytest.mark.parametrize("wakes", [["matcher"], ["matcher", "engine"], []])
async def test_whoever_wrote_to_a_file_is_told_when_the_disk_has_it(
    file: Database, wakes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, to_disk, stored = Path(file.disk.log), sqlite_disk._to_disk, list[bytes]()

    def watched(descriptor: int) -> None:
        assert os.fstat(descriptor).st_ino == log.stat().st_ino
        stored.append(log.read_bytes())
        to_disk(descriptor)

    monkeypatch.setattr(sqlite_disk, "_to_disk", watched)
    try:
        async with file.write("org_a") as tx:
            await store(tx)
            tx.wakes = set(wakes)
        assert stored == [await asyncio.to_thread(log.read_bytes)]
        assert await asked(file, STORED, "org_a") == 1
        assert len(stored) == 1, "who only reads waits for no disk"
    finally:
        await file.close()


@pytest.mark.parametrize("wakes", [["matcher"], []])
async def test_a_disk_that_fails_is_told_to_whoever_wrote(
    file: Database, wakes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_descriptor: int) -> None:
        raise OSError("the disk is gone")

    async def bring() -> None:
        async with file.write("org_a") as tx:
            await store(tx)
            tx.wakes = set(wakes)

    try:
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_disk, "_to_disk", failing)
            with pytest.raises(OSError, match="the disk is gone"):
                await bring()
        async with file.write("org_a") as tx:
            assert len(await tx.fetch("SELECT id FROM events WHERE org_id = $1", "org_a")) == 1
    finally:
        await file.close()


async def test_who_sends_out_what_it_has_read_from_postgresql_waits_for_the_disk(careful: Database) -> None:
    try:
        async with careful.system() as tx:
            await tx.fetch("SET LOCAL synchronous_commit = off")
            await store(tx.within("org_a"))
            tx.wake("engine")
        written = await asked(careful, _WRITTEN)
        await careful.on_disk()
        assert await asked(careful, _ON_DISK) >= written
    finally:
        await careful.close()


async def test_who_is_told_again_on_postgresql_is_told_when_the_disk_has_it(
    careful: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _is_told_again_from_the_disk(careful, PostgresqlSession, monkeypatch)


async def test_who_is_told_again_on_sqlite_is_told_when_the_disk_has_it(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _is_told_again_from_the_disk(file, SqliteSession, monkeypatch)


async def _is_told_again_from_the_disk(
    database: Database, kind: type[PostgresqlSession | SqliteSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, on_disk = list[str](), kind.on_disk

    async def watched(session: Any) -> None:
        waited.append("for the disk")
        await on_disk(session)

    async def bring(event: str) -> tuple[Any, Any]:
        async with database.write("org_a") as tx:
            answer = await idempotency.begin(tx, "key_1", "k", "Method", "hash", "call")
            if answer is None:
                await idempotency.finish(tx, "key_1", "k", b"reply")
            return answer, await events.claim_message_ids(tx, {("api", "m_1"): event})

    monkeypatch.setattr(kind, "on_disk", watched)
    try:
        assert await bring(EVENT) == (None, {})
        assert waited == []
        assert await bring("evt_2") == (idempotency.Answer(b"reply"), {("api", "m_1"): EVENT})
        assert waited == ["for the disk"]
    finally:
        await database.close()
