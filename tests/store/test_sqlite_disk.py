"""The disk beneath a file: one batch may be on its way there, and nothing is written after what it refused."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from core import ids
from core.clock import ManualClock
from core.store import sqlite_disk
from core.store.database import Database
from core.store.sqlite_session import SqliteSession
from tests.store.bringing import STORED, asked, opened, store

pytestmark = pytest.mark.anyio


@pytest.fixture
async def file(tmp_path: Path, clock: ManualClock, anyio_backend: str) -> Database:
    return await opened(tmp_path, clock)


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
        second, waiting = asyncio.create_task(_batch(file)), asyncio.create_task(file.disk.arrive())
        assert await asked(file, STORED, "org_a") == 1
        assert was == ["committed"]
        assert not waiting.done()
        goes_on.set()
        await asyncio.gather(second, waiting)
        assert await asked(file, STORED, "org_a") == 2
        await file.disk.arrive()
        assert was == ["committed", "on the disk"] * 2
    finally:
        await file.close()


async def _batch(file: Database, *, ahead: bool = True) -> None:
    async with file.system() as tx:
        await store(tx.within("org_a"), ids.mint("evt", tx.now))
        tx.goes_ahead = ahead


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


@pytest.mark.parametrize("ahead", [False, True])
async def test_what_the_disk_refused_is_in_the_file_before_anybody_writes_after_it(
    file: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ahead: bool
) -> None:
    """What is refused may be a hole in the log later on, behind which nothing is found."""
    try:
        await _refused_batch(file, monkeypatch)
        await _batch(file, ahead=ahead)
        await file.on_disk()
        shutil.copy(tmp_path / "a.db", tmp_path / "without_log.db")
        with closing(sqlite3.connect(tmp_path / "without_log.db")) as found:
            assert found.execute(STORED.replace("$1", "'org_a'")).fetchone() == (1,)
        assert await asked(file, STORED, "org_a") == 2
    finally:
        await file.close()


async def test_nobody_writes_after_what_the_disk_refused_while_others_read_it(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        await _refused_batch(file, monkeypatch)
        async with file.read("org_a") as tx:
            await tx.fetch(STORED, "org_a")
            with pytest.raises(OSError, match="cannot be written back"):
                await _batch(file)
        await _batch(file, ahead=False)
        assert await asked(file, STORED, "org_a") == 2
    finally:
        await file.close()


async def test_a_disk_that_refuses_a_batch_is_told_to_who_writes_meanwhile(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def refuse_late(_descriptor: int) -> None:
        goes_on.wait(10)
        raise OSError("the disk is gone")

    async def write() -> None:
        async with file.write("org_a") as tx:
            await store(tx)
            goes_on.set()
            with pytest.raises(OSError, match="the disk is gone"):
                await file.disk.arrive()

    try:
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_disk, "_to_disk", refuse_late)
            await _batch(file)
            with pytest.raises(OSError, match="refused what was written last"):
                await write()
        await _batch(file, ahead=False)
        assert await asked(file, STORED, "org_a") == 2, "of three, one was rolled back"
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
            assert await asked(file, STORED, "org_a") == 1
            second.cancel()
            await asyncio.wait((second,))
            goes_on.set()
            with pytest.raises(OSError, match="the disk is gone"):
                await file.disk.arrive()
            with pytest.raises(OSError, match="the disk is gone"):
                await _batch(file)
    finally:
        await file.close()


async def _refused_batch(file: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite_disk, "_to_disk", refuse)
        await _batch(file)
        with pytest.raises(OSError, match="the disk is gone"):
            await file.on_disk()


async def test_who_sends_out_what_it_has_read_from_a_file_waits_for_the_disk(
    file: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk = list[bytes]()
    monkeypatch.setattr(sqlite_disk, "_to_disk", lambda _descriptor: on_disk.append(Path(file.disk.log).read_bytes()))
    try:
        async with file.write("org_a") as tx:
            await store(tx)
        on_disk.clear()
        await file.on_disk()
        assert on_disk == [await asyncio.to_thread(Path(file.disk.log).read_bytes)]
    finally:
        await file.close()
