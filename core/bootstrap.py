"""The one place that joins the parts: opens the database, starts the roles of this process, drains and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

import grpc
import structlog
from sqlalchemy import make_url

from core import collector, connection, loading, provisioning
from core.clock import Clock
from core.delivery.carrier import ConnectionCarrier
from core.delivery.dispatcher import Dispatcher
from core.delivery.http import WebhookSender
from core.delivery.mailer import Mailer
from core.delivery.provider_keys import ProviderKeys
from core.delivery.replayer import Replayer
from core.delivery.smtp import sender_of
from core.delivery.systems.opening import Opener
from core.delivery.systems.syncer import Syncer
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.classify import Outcome
from core.engine.answers import assign_owner, enroll_with
from core.engine.driver import EnrollmentDriver
from core.engine.importer import Importer
from core.engine.leaving import contacts_leave
from core.engine.matcher import Matcher
from core.engine.outcomes import deliveries_ended, messages_ended
from core.engine.scheduler import Scheduler
from core.engine.sealer import Sealer
from core.engine.starter import Starter
from core.engine.ticker import Ticker
from core.listening import CannotListen, listen, refuse_open_plaintext, split_address, spoken
from core.loop import Loop
from core.rpc import metrics
from core.rpc.admission.authentication import Authenticator
from core.rpc.admission.limits import RateLimiter
from core.rpc.admission.sign_in import SignIn
from core.rpc.call import Parts
from core.rpc.in_process import InProcessChannel
from core.rpc.methods import Method, table
from core.rpc.pipeline import Pipeline
from core.rpc.qualification.answering import qualify_with
from core.rpc.server import GrpcServer
from core.settings import Settings
from core.store import migrate
from core.store.control.usage import Used
from core.store.database import Database
from core.store.retention import Kept
from core.store.systems import master_keys, sealing
from core.store.systems.master_keys import MasterKeys
from core.store.systems.vault import Vault
from core.store.workflows.workflows import VersionCache

if TYPE_CHECKING:
    from core.gateway.web_server import WebServer

_log = structlog.get_logger()
_UPKEEP_SECONDS = 60.0
_WARMS_AFTER_SECONDS = 3.0
"""Whoever waited for the start goes first."""


class AlreadyRunning(Exception):
    """Another core holds what this one wants."""

    def __init__(self, path: Path):
        super().__init__(
            f"Another core is running: it holds {path}. Use that one (`dripstone env` tells where it listens), "
            "stop it, or choose another --data-dir and --db."
        )


def _count_attempt(outcome: Outcome, _duration: timedelta) -> None:
    metrics.delivery_attempts_total.labels(outcome.value).inc()


def _count_moves(kinds: Mapping[str, int]) -> None:
    for kind, count in kinds.items():
        metrics.transitions_total.labels(kind).inc(count)


def _count_use(used: Sequence[Used]) -> None:
    for one in used:
        if one.count and ":" not in one.metric:
            metrics.use_total.labels(one.subject_kind, one.metric).inc(one.count)
        if one.cost:
            metrics.cost_total.labels(one.subject_kind).inc(one.cost)


@dataclass(slots=True)
class Core:
    """A running process: its parts, its servers and its loops."""

    locks: list[IO[str]]
    """Held as long as it lives: no second core on one SQLite file, or behind one connection.json."""
    settings: Settings
    database: Database
    parts: Parts
    pipeline: Pipeline
    methods: tuple[Method, ...]
    ticker: Ticker
    matcher: Matcher
    starter: Starter
    scheduler: Scheduler
    importer: Importer
    sealer: Sealer
    dispatcher: Dispatcher
    mailer: Mailer
    replayer: Replayer
    syncer: Syncer
    sender: WebhookSender
    grpc_target: str = ""
    http_url: str = ""
    _grpc: GrpcServer | None = None
    _channel: InProcessChannel | None = None
    _http: WebServer | None = None
    _loops: list[Loop] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def open(cls, settings: Settings, clock: Clock) -> Core:
        """Open the database, bring its schema up to date and join the parts; nothing runs yet."""
        refuse_open_plaintext(settings)
        async with contextlib.AsyncExitStack() as opened:
            locks = _take_locks(settings)
            opened.callback(_give_back, locks)
            database = await Database.open(settings.database_url, clock)
            opened.push_async_callback(database.close)
            await migrate.upgrade(database)
            core = cls._joined(settings, clock, locks, database)
            opened.pop_all()  # it is `stop` that closes them from now on
        return core

    @classmethod
    def _joined(cls, settings: Settings, clock: Clock, locks: list[IO[str]], database: Database) -> Core:
        versions = VersionCache()
        driver = EnrollmentDriver(versions, on_moved=_count_moves)
        sender = WebhookSender(Destinations(settings.allowed_destinations))
        keys = settings.master_key_file or settings.data_dir / master_keys.FILE_NAME
        masters = MasterKeys(keys, may_make=settings.master_key_file is None)
        systems = Opener(sender, masters, database)
        # A key that this process made in its own data directory would be of no use to others on the same database.
        vault = Vault(masters, seals=not database.is_postgresql or masters.are_given)
        parts = Parts(
            systems=systems,
            vault=vault,
            database=database,
            clock=clock,
            settings=settings,
            engine=driver,
            versions=versions,
            webhook_sender=sender,
        )
        driver.answer("assign_owner", assign_owner)
        driver.answer("enroll", enroll_with(driver, versions))
        driver.answer("qualify", qualify_with(parts))
        authenticator = Authenticator(database, clock, SignIn(database, clock, ProviderKeys(sender, clock)))
        pipeline = Pipeline(parts, authenticator, RateLimiter(clock, settings.requests_per_second))
        kept = Kept(
            settings.keep_webhooks_days, settings.keep_events_days, settings.keep_traces_days, settings.keep_audit_days
        )
        return cls(
            locks=locks,
            settings=settings,
            database=database,
            parts=parts,
            pipeline=pipeline,
            methods=table(),
            ticker=Ticker(database, driver),
            matcher=Matcher(database, driver, versions),
            starter=Starter(database, driver, versions),
            scheduler=Scheduler(database, kept, on_used=_count_use),
            importer=Importer(database),
            sealer=Sealer(database),
            dispatcher=Dispatcher(
                database, sender, clock, vault=vault, on_final=deliveries_ended(driver), on_attempt=_count_attempt
            ),
            mailer=Mailer(
                database,
                sender_of(settings),
                clock,
                public_url=settings.links_url,
                carrier=ConnectionCarrier(database, sender, vault),
                on_ended=messages_ended(driver),
            ),
            replayer=Replayer(database, clock),
            syncer=Syncer(database, systems, clock, parts.draining, contacts_leave(driver)),
            sender=sender,
        )

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
        await self._look_for_keys()
        if "engine" in roles:  # first: who is due does not wait for the servers
            self._loop("engine", self.ticker.turn)
            for _ in range(1, self.ticker.at_once):
                self._run_loop(Loop("engine", self.ticker.turn, self.ticker.behind, self.parts.clock))
            self._loop("matcher", self.matcher.turn, few=self.matcher.few)
            self._loop("starter", self.starter.turn)
        if roles & {"grpc", "http"}:
            await self._start_grpc()
        if "http" in roles:
            await self._start_http()
        if "dispatcher" in roles:
            if not self.database.is_postgresql:
                await self.dispatcher.recover()  # nobody else sends from this file: what is leased is a dead process's
                await self.mailer.recover()
                await self.syncer.recover()
            self._run_loop(Loop("dispatcher", self.dispatcher.turn, self.dispatcher.wake, self.parts.clock))
            self._run_loop(Loop("mailer", self.mailer.turn, self.mailer.wake, self.parts.clock))
            self._run_loop(Loop("replayer", self.replayer.turn, self.replayer.wake, self.parts.clock))
            self._run_loop(Loop("syncer", self.syncer.turn, self.syncer.wake, self.parts.clock))
        if "scheduler" in roles:
            self._loop("scheduler", self.scheduler.turn, _UPKEEP_SECONDS)
            self._loop("importer", self.importer.turn)
            self._loop("sealer", self.sealer.turn)
        collector.look_less()

    async def _look_for_keys(self) -> None:
        """Tell at once what else is told by each delivery that cannot be signed: a master key is not here."""
        keys = self.parts.vault.keys
        if keys is None:
            return
        async with self.database.system() as tx:
            missing = await sealing.missing_keys(tx, keys)
        if missing:
            _log.error("what is sealed under these master keys cannot be opened", missing=sorted(missing))

    def _loop(self, name: str, turn: Callable[[], Awaitable[int]], idle_seconds: float = 1.0, few: int = 0) -> None:
        self._run_loop(Loop(name, turn, self.database.wakeups.event(name), self.parts.clock, idle_seconds, few))

    def _run_loop(self, loop: Loop) -> None:
        self._loops.append(loop)
        self._tasks.append(asyncio.create_task(loop.run(), name=loop.name))

    async def _start_grpc(self) -> None:
        self._grpc = GrpcServer(self.methods, self.pipeline)
        served = "grpc" in self.settings.roles
        address = self.settings.grpc_listen if served else "127.0.0.1:0"  # at least the programs here come in
        host, port = split_address(address)
        if served:
            listen(host, port).close()  # tells better than gRPC what is wrong
        try:
            (port,) = await self._grpc.start([(address, self._credentials() if served else None)])
        except RuntimeError as error:
            raise CannotListen(address) from error
        self.grpc_target = f"{spoken(host)}:{port}"
        self.sender.refuse(host, port)

    def _credentials(self) -> grpc.ServerCredentials | None:
        if self.settings.tls_certificate is None or self.settings.tls_key is None:
            return None
        pair = (self.settings.tls_key.read_bytes(), self.settings.tls_certificate.read_bytes())
        return grpc.ssl_server_credentials([pair])

    async def _start_http(self) -> None:
        host, port = split_address(self.settings.http_listen)
        self._channel = InProcessChannel(self.methods, self.pipeline)
        await asyncio.to_thread(loading.load, "core.gateway.web_server")  # the engine's loops go on meanwhile
        from core.gateway.web_server import web_server

        http = web_server(
            self.pipeline,
            self.methods,
            self.settings,
            channel=self._channel,
            ready=self.ready,
            host=host,
            port=port,
        )
        listener = listen(host, port)
        self._http = http
        serving = asyncio.create_task(http.serve([listener]), name="http")
        self._tasks.append(serving)
        await http.listening.wait()
        if serving.done():  # as over a certificate and a key that do not belong together
            listener.close()
            await serving
            raise CannotListen(self.settings.http_listen)
        port = listener.getsockname()[1]
        scheme = "https" if self.settings.tls_certificate else "http"
        self.http_url = f"{scheme}://{spoken(host)}:{port}"
        self.mailer.public_url = self.settings.public_url or self.http_url
        http.mcp.base_url = self.mailer.public_url.rstrip("/")
        self.sender.refuse(host, port)

    def warm(self) -> None:
        """Load what the start did without, in the background: then nobody's first call waits for it."""
        self._tasks.append(asyncio.create_task(self._warm(), name="warm"))

    async def _warm(self) -> None:
        await self.parts.clock.wait(self.parts.draining, _WARMS_AFTER_SECONDS)
        await loading.load_late(self.parts.draining)
        if self._http is not None:
            with contextlib.suppress(Exception):  # which is logged there, and tried anew by who asks
                await self._http.mcp.up()

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
        if self._http is not None:
            self._http.leave()
        grace = self.settings.drain_seconds
        async with contextlib.AsyncExitStack() as closing:  # from the last to the first, whatever fails
            closing.callback(_give_back, self.locks)
            closing.push_async_callback(self.database.close)
            closing.push_async_callback(self.sender.close)
            closing.push_async_callback(self._stop_sending, grace)
            closing.push_async_callback(self.pipeline.finish, grace)
            if self._grpc is not None:
                closing.push_async_callback(self._grpc.stop, grace)
            if self._channel is not None:  # after HTTP, whose MCP server calls by it
                closing.push_async_callback(self._channel.close, grace)
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _stop_sending(self, grace: float) -> None:
        ended = await asyncio.gather(self.dispatcher.stop(grace), self.mailer.stop(grace), return_exceptions=True)
        for one in ended:
            if isinstance(one, BaseException):
                raise one

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
