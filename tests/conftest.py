"""Fixtures that every test may use: both databases, a clock turned by hand."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from core import collector
from core.clock import ManualClock
from core.store.database import Database
from tests.databases import START, Databases, Filled, new_postgresql_database, postgresql

__all__ = ["START", "new_postgresql_database"]

pytest_plugins = ["tests.hanging"]

# How fast a machine is must not decide whether a property holds.
# Half of the usual number of examples keeps the whole suite within its eight minutes on two cores.
settings.register_profile("suite", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the garbage collector rest while modules are imported, and leave them alone afterwards."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        collector.look_less()


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what starts a whole core on SQLite alone, and what is marked `one_database`, but for `both_databases`.

    Statements have tests of their own under the calls, each on both databases (`tests/store`, and whatever opens a
    `database`), and every method is called on both (`tests/rpc/test_isolation.py`, `tests/contract/test_cases.py`).
    `both_databases` is for what may still differ: races and locks, order and paging, sums over many rows, erasing,
    isolation. `one_database` is for handlers over a `database` whose statements others show to be alike.
    """
    node, asked = metafunc.definition, set(metafunc.fixturenames)
    alone = "core" in asked or node.get_closest_marker("one_database")
    chosen = any("database_url" in mark.args[0] for mark in node.iter_markers("parametrize"))
    if alone and "database_url" in asked and not chosen and not node.get_closest_marker("both_databases"):
        node.add_marker(pytest.mark.parametrize("database_url", ["sqlite"], indirect=True))


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which is what the product runs on."""
    return "asyncio"


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that only the test turns."""
    return ManualClock(START)


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """Return what makes databases for tests."""
    return Databases(tmp_path_factory.mktemp("databases"))


@pytest.fixture(scope="session")
def postgresql_server(databases: Databases) -> Iterator[str]:
    """Return the address of a real PostgreSQL: the one given, or one started from its wheel."""
    with postgresql() as server:
        yield server
        databases.drop_prepared()


def _filled(request: pytest.FixtureRequest) -> Filled:
    """Tell what the test's other fixtures would fill an empty database with, so that it is copied from one that has it.

    A core migrates, in this process or in one that is killed; an open database gets its tables; whoever asks for
    nothing but the address gets it empty.
    """
    if "core" in request.fixturenames or request.node.get_closest_marker("kill9"):
        return "migrated"
    return "tables" if {"database", "postgresql_database"} & set(request.fixturenames) else "empty"


@pytest.fixture
def postgresql_url(request: pytest.FixtureRequest, postgresql_server: str, databases: Databases) -> Iterator[str]:
    """Return the address of a PostgreSQL database of this test's own."""
    with databases.on_postgresql(postgresql_server, _filled(request)) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> str:
    """Return the address of a database of this test's own, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return databases.on_sqlite(tmp_path / "dripstone.db", _filled(request))
    return str(request.getfixturevalue("postgresql_url"))


@asynccontextmanager
async def _opened(url: str, clock: ManualClock) -> AsyncIterator[Database]:
    database = await Database.open(url, clock)
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
