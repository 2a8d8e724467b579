"""The one place that joins the parts: opens the database, starts the roles of this process, drains and stops them.

The engine is joined first and begins to move who is due. What else the process does takes as long again to load, and
is loaded meanwhile (`core.outward`); an engine alone does without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import structlog
from sqlalchemy import make_url

from core import collector, connection, loading, provisioning
from core.clock import Clock
from core.delivery.http import WebhookSender
from core.delivery.systems.opening import Opener
from core.domain.effects import Ask
from core.domain.enrollment import Answered, Enrollment
from core.domain.webhooks.addresses import Destinations
from core.engine.answers import assign_owner, enroll_with
from core.engine.driver import Answer, EnrollmentDriver
from core.engine.matcher import Matcher
from core.engine.starter import Starter
from core.engine.ticker import Ticker
from core.listening import refuse_open_plaintext
from core.loop import Loop
from core.rpc.call import Parts
from core.settings import Settings
from core.store import migrate
from core.store.database import Database
from core.store.systems import master_keys, sealing
from core.store.systems.master_keys import MasterKeys
from core.store.systems.vault import Vault
from core.store.transaction import Transaction
from core.store.workflows.workflows import VersionCache

if TYPE_CHECKING:
    from core.outward import Outward

_log = structlog.get_logger()
_FIRST_TURN_SECONDS = 0.5
"""For as long at most is the first turn of the engine waited for before what serves is loaded."""
_WARMS_AFTER_SECONDS = 3.0
"""Whoever waited for the start goes first."""


class AlreadyRunning(Exception):
    """Another core holds what this one wants."""

    def __init__(self, path: Path):
        super().__init__(
            f"Another core is running: it holds {path}. Use that one (`dripstone env` tells where it listens), "
            "stop it, or choose another --data-dir and --db."
        )


def _count_moves(kinds: Mapping[str, int]) -> None:
    from core.rpc import metrics  # loaded with the first move that is committed

    for kind, count in kinds.items():
        metrics.transitions_total.labels(kind).inc(count)


@dataclass(slots=True)
class Core:
    """A running process: its parts, its servers and its loops."""

    locks: list[IO[str]]
    """Held as long as it lives: no second core on one SQLite file, or behind one connection.json."""
    settings: Settings
    database: Database
    parts: Parts
    ticker: Ticker
    matcher: Matcher
    starter: Starter
    _outward: Outward | None = None
    _loops: list[Loop] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def open(cls, settings: Settings, clock: Clock) -> Core:
        """Open the database, bring its schema up to date and join the engine; nothing runs yet."""
        refuse_open_plaintext(settings)
        async with contextlib.AsyncExitStack() as opened:
            locks = _take_locks(settings)
            opened.callback(_give_back, locks)
            database = await Database.open(settings.database_url, clock)
            opened.push_async_callback(database.close)
            await migrate.upgrade(database)
            parts = _parts(settings, clock, database)
            opened.pop_all()  # it is `stop` that closes them from now on
        return cls(
            locks=locks,
            settings=settings,
            database=database,
            parts=parts,
            ticker=Ticker(database, parts.engine),
            matcher=Matcher(database, parts.engine, parts.versions),
            starter=Starter(database, parts.engine, parts.versions),
        )

    @property
    def outward(self) -> Outward:
        """Return what the process does beside its engine; it is there once it is joined."""
        assert self._outward is not None, "what serves is joined when the process starts"
        return self._outward

    @property
    def grpc_target(self) -> str:
        """Return where gRPC is served; empty where it is not."""
        return "" if self._outward is None else self._outward.grpc_target

    @property
    def http_url(self) -> str:
        """Return where HTTP is served; empty where it is not."""
        return "" if self._outward is None else self._outward.http_url

    async def join(self) -> None:
        """Load and join what the process does beside its engine, whose loops go on meanwhile; once.

        Raises ValueError for settings that say nothing.
        """
        if self._outward is not None:
            return
        await asyncio.to_thread(_load_outward)
        from core.outward import Outward

        self._outward = Outward.joined(self.parts)

    async def start(self) -> None:
        """Start the servers and loops of this process's roles.

        Raises CannotListen for an address that is taken; what had started is stopped again.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        roles = self.settings.roles
        engine = self._start_engine() if "engine" in roles else None  # first: who is due does not wait for the servers
        if roles - {"engine"}:
            if engine is not None:  # with modules being loaded beside it, its first turn would take twice as long
                await self.parts.clock.wait(engine.turned, _FIRST_TURN_SECONDS)
            await self.join()
            await self.outward.start_servers(self.ready)
            if "dispatcher" in roles:
                await self.outward.recover()
            for loop in self.outward.loops():
                self._run_loop(loop)
        await self._look_for_keys()
        collector.look_less()

    def _start_engine(self) -> Loop:
        engine = self._loop("engine", self.ticker.turn)
        for _ in range(1, self.ticker.at_once):
            self._run_loop(Loop("engine", self.ticker.turn, self.ticker.behind, self.parts.clock))
        self._loop("matcher", self.matcher.turn, few=self.matcher.few)
        self._loop("starter", self.starter.turn)
        return engine

    async def _look_for_keys(self) -> None:
        """Tell at once what else is told by each delivery that cannot be signed: a master key is not here."""
        keys = self.parts.vault.keys
        if keys is None:
            return
        async with self.database.system() as tx:
            missing = await sealing.missing_keys(tx, keys)
        if missing:
            _log.error("what is sealed under these master keys cannot be opened", missing=sorted(missing))

    def _loop(self, name: str, turn: Callable[[], Awaitable[int]], idle_seconds: float = 1.0, few: int = 0) -> Loop:
        loop = Loop(name, turn, self.database.wakeups.event(name), self.parts.clock, idle_seconds, few)
        return self._run_loop(loop)

    def _run_loop(self, loop: Loop) -> Loop:
        self._loops.append(loop)
        self._tasks.append(asyncio.create_task(loop.run(), name=loop.name))
        return loop

    def warm(self) -> None:
        """Load what the start did without, in the background: then nobody's first call waits for it."""
        self._tasks.append(asyncio.create_task(self._warm(), name="warm"))

    async def _warm(self) -> None:
        await self.parts.clock.wait(self.parts.draining, _WARMS_AFTER_SECONDS)
        await loading.load_late(self.parts.draining)
        if self._outward is not None:
            await self._outward.warm()

    async def ready(self) -> bool:
        """Tell whether calls should be sent here: not while draining, not without a database."""
        if self.parts.draining.is_set():
            return False
        try:
            return await migrate.revision(self.database) is not None
        except Exception:
            _log.exception("the database does not answer")
            return False

    async def stop(self) -> None:
        """Drain: refuse new calls, finish those under way and what is being sent, then close everything."""
        self.parts.draining.set()
        self.database.wakeups.signal({"watch", "pull"})  # streams end by themselves once they see it
        for loop in self._loops:
            loop.stop()
        async with contextlib.AsyncExitStack() as closing:  # from the last to the first, whatever fails
            closing.callback(_give_back, self.locks)
            closing.push_async_callback(self.database.close)
            closing.push_async_callback(self.parts.webhook_sender.close)
            ending: list[Awaitable[None]] = [*self._tasks]
            if self._outward is not None:
                closing.push_async_callback(self._outward.stop, self.settings.drain_seconds)
                ending.append(self._outward.leave())
            await asyncio.gather(*ending, return_exceptions=True)

    async def write_connection(self, data_dir: Path) -> connection.Connection:
        """Write `connection.json`; make a first organization when there is none, and keys for those that are lost."""
        known = connection.read(data_dir)
        held = (known.api_key, known.agent_key, known.approver_api_key) if known else ("", "", "")
        org_id = await provisioning.first_organization(self.database, "Demo")
        keys = [
            key if key and await provisioning.key_works(self.database, key) else await mint(self.database, org_id)
            for key, mint in zip(held, provisioning.BOOTSTRAP_KEYS, strict=True)
        ]
        written = connection.Connection(self.grpc_target, self.http_url, f"{self.http_url}/mcp", *keys)
        connection.write(data_dir, written)
        return written


def _parts(settings: Settings, clock: Clock, database: Database) -> Parts:
    """Return what the engine and handlers work with."""
    versions = VersionCache()
    is_asked = "http" in settings.roles  # nobody can ask another process for what it counts
    driver = EnrollmentDriver(versions, on_moved=_count_moves) if is_asked else EnrollmentDriver(versions)
    sender = WebhookSender(Destinations(settings.allowed_destinations))
    keys = settings.master_key_file or settings.data_dir / master_keys.FILE_NAME
    masters = MasterKeys(keys, may_make=settings.master_key_file is None)
    parts = Parts(
        database=database,
        clock=clock,
        settings=settings,
        engine=driver,
        versions=versions,
        webhook_sender=sender,
        systems=Opener(sender, masters, database),
        # A key that this process made in its own data directory would be of no use to others on the same database.
        vault=Vault(masters, seals=not database.is_postgresql or masters.are_given),
    )
    driver.answer("assign_owner", assign_owner)
    driver.answer("enroll", enroll_with(driver, versions))
    driver.answer("qualify", _qualify_with(parts))
    return parts


def _qualify_with(parts: Parts) -> Answer:
    """Return what qualifies the lead of an enrollment as a call does, and is loaded with the first who asks for it."""
    answer: Answer | None = None

    async def qualify(tx: Transaction, enrollment: Enrollment, ask: Ask) -> Answered:
        nonlocal answer
        if answer is None:
            await asyncio.to_thread(loading.load, "core.rpc.qualification.answering")
            from core.rpc.qualification.answering import qualify_with

            answer = qualify_with(parts)
        return await answer(tx, enrollment, ask)

    return qualify


def _load_outward() -> None:
    """Load it, and the handlers of every method."""
    loading.load("core.outward")
    with collector.resting():
        from core.rpc import methods

        methods.table()


def _take_locks(settings: Settings) -> list[IO[str]]:
    """Lock what only one process may use; the operating system gives the locks back however the process ends.

    Raises AlreadyRunning.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = []
    if settings.roles & {"grpc", "http"}:
        wanted.append(settings.data_dir / "core.lock")
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        wanted.append(Path(f"{url.database}.lock"))
    locks: list[IO[str]] = []
    for path in wanted:
        file = path.open("w")
        locks.append(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            _give_back(locks)
            raise AlreadyRunning(path) from error
    return locks


def _give_back(locks: list[IO[str]]) -> None:
    for lock in locks:
        lock.close()
