"""What only the matcher waits for: it has it while whoever wrote it still waits for the disk."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from core import ids
from core.clock import ManualClock
from core.store import idempotency, sqlite_session
from core.store.database import Database
from core.store.events import events
from core.store.events.events import NewEvent
from core.store.session import PostgresqlSession
from core.store.sqlite_session import SqliteSession
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


@pytest.fixture
async def file(tmp_path: Path, clock: ManualClock, anyio_backend: str) -> Database:
    """Return a database in a file."""
    database = await Database.open(f"sqlite:///{tmp_path}/a.db", clock)
    await database.create_schema()
    return database


async def _store(tx: Transaction) -> None:
    await events.store(tx, [_event(EVENT, tx)])


def _event(event: str, tx: Transaction) -> NewEvent:
    return NewEvent(event, "api", "action", "form.submitted", {}, None, tx.now, "")


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


async def test_the_matcher_has_the_file_while_who_brought_an_event_waits_for_the_disk(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher, goes_on, on_disk = file.wakeups.event("matcher"), asyncio.Event(), SqliteSession.on_disk

    async def held(session: SqliteSession) -> None:
        await goes_on.wait()
        await on_disk(session)

    async def bring() -> None:
        async with file.write("org_a") as tx:
            await _store(tx)

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
    log, to_disk, stored = Path(file.log), sqlite_session._to_disk, list[bytes]()

    def watched(descriptor: int) -> None:
        assert os.fstat(descriptor).st_ino == log.stat().st_ino
        stored.append(log.read_bytes())
        to_disk(descriptor)

    monkeypatch.setattr(sqlite_session, "_to_disk", watched)
    try:
        async with file.write("org_a") as tx:
            await _store(tx)
            tx.wakes = set(wakes)
        assert stored == [await asyncio.to_thread(log.read_bytes)]
        assert await _asked(file, _STORED, "org_a") == 1
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
            await _store(tx)
            tx.wakes = set(wakes)

    try:
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_session, "_to_disk", failing)
            with pytest.raises(OSError, match="the disk is gone"):
                await bring()
        async with file.write("org_a") as tx:
            assert len(await tx.fetch("SELECT id FROM events WHERE org_id = $1", "org_a")) == 1
    finally:
        await file.close()


async def test_a_batch_is_on_its_way_to_the_disk_while_the_next_one_is_made_and_no_third_one_is(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, was = asyncio.Event(), list[str]()
    commit_ahead, on_disk = SqliteSession.commit_ahead, SqliteSession.on_disk

    async def committed(session: SqliteSession) -> None:
        await commit_ahead(session)
        was.append("committed")

    async def held(session: SqliteSession) -> None:
        await goes_on.wait()
        await on_disk(session)
        was.append("on the disk")

    monkeypatch.setattr(SqliteSession, "commit_ahead", committed)
    monkeypatch.setattr(SqliteSession, "on_disk", held)
    try:
        await _batch(file)
        second, waiting = asyncio.create_task(_batch(file)), asyncio.create_task(file.ahead.on_disk())
        assert await _asked(file, _STORED, "org_a") == 1
        assert was == ["committed"]
        assert not waiting.done()
        goes_on.set()
        await asyncio.gather(second, waiting)
        assert await _asked(file, _STORED, "org_a") == 2
        await file.ahead.on_disk()
        assert was == ["committed", "on the disk"] * 2
    finally:
        await file.close()


async def _batch(file: Database) -> None:
    async with file.system() as tx:
        await events.store(tx.within("org_a"), [_event(ids.mint("evt", tx.now), tx)])
        tx.goes_ahead = True


async def test_nobody_waits_for_the_disk_behind_what_else_keeps_the_threads_of_the_loop(file: Database) -> None:
    goes_on, loop = threading.Event(), asyncio.get_running_loop()
    others = [loop.run_in_executor(None, goes_on.wait) for _ in range(64)]  # such as names that are looked up
    try:
        async with asyncio.timeout(20):
            await _batch(file)
            await _batch(file)
            await file.on_disk()
    finally:
        goes_on.set()
        await asyncio.gather(*others)
        await file.close()


async def test_a_disk_that_fails_a_batch_is_told_to_the_next_one_alone(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_descriptor: int) -> None:
        raise OSError("the disk is gone")

    try:
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_session, "_to_disk", failing)
            await _batch(file)
            with pytest.raises(OSError, match="the disk is gone"):
                await file.ahead.on_disk()
        with pytest.raises(OSError, match="the disk is gone"):
            await _batch(file)
        await _batch(file)
        await file.ahead.on_disk()
        assert await _asked(file, _STORED, "org_a") == 2
    finally:
        await file.close()


@pytest.mark.parametrize("ahead", [False, True])
async def test_a_disk_that_fails_a_batch_is_told_to_whoever_writes_next(
    file: Database, monkeypatch: pytest.MonkeyPatch, *, ahead: bool
) -> None:
    def failing(_descriptor: int) -> None:
        raise OSError("the disk is gone")

    async def next_one() -> None:
        async with file.write("org_a") as tx:
            await _store(tx)
            tx.goes_ahead = ahead

    try:
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_session, "_to_disk", failing)
            await _batch(file)
            with pytest.raises(OSError, match="the disk is gone"):
                await file.on_disk()
        assert await _asked(file, _STORED, "org_a") == 1, "who only reads is told nothing"
        with pytest.raises(OSError, match="the disk is gone"):
            await file.on_disk()
        with pytest.raises(OSError, match="the disk is gone"):
            await next_one()
        assert await _asked(file, _STORED, "org_a") == 1
        await next_one()
        await file.on_disk()
        assert await _asked(file, _STORED, "org_a") == 2
    finally:
        await file.close()


async def test_who_is_cancelled_while_a_batch_is_on_its_way_to_the_disk_leaves_its_failure_to_others(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, waits = asyncio.Event(), asyncio.Event()

    async def failing(_session: SqliteSession) -> None:
        waits.set()
        await goes_on.wait()
        raise OSError("the disk is gone")

    try:
        with monkeypatch.context() as patched:
            patched.setattr(SqliteSession, "on_disk", failing)
            await _batch(file)
            second = asyncio.create_task(_batch(file))
            await waits.wait()
            assert await _asked(file, _STORED, "org_a") == 1
            second.cancel()
            await asyncio.wait((second,))
            goes_on.set()
            with pytest.raises(OSError, match="the disk is gone"):
                await file.ahead.on_disk()
        with pytest.raises(OSError, match="the disk is gone"):
            await _batch(file)
    finally:
        await file.close()


async def test_who_sends_out_what_it_has_read_from_a_file_waits_for_the_disk(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk = list[bytes]()
    monkeypatch.setattr(sqlite_session, "_to_disk", lambda _descriptor: on_disk.append(Path(file.log).read_bytes()))
    try:
        async with file.write("org_a") as tx:
            await _store(tx)
        on_disk.clear()
        await file.on_disk()
        assert on_disk == [await asyncio.to_thread(Path(file.log).read_bytes)]
    finally:
        await file.close()


async def test_who_sends_out_what_it_has_read_from_postgresql_waits_for_the_disk(careful: Database) -> None:
    try:
        async with careful.system() as tx:
            await tx.fetch("SET LOCAL synchronous_commit = off")
            await _store(tx.within("org_a"))
            tx.wake("engine")
        written = await _asked(careful, _WRITTEN)
        await careful.on_disk()
        assert await _asked(careful, _ON_DISK) >= written
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
