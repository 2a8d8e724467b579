"""What a process does beside its engine: it answers calls, sends what leaves, keeps up. Loaded once the engine runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc

from core import loading
from core.delivery.carrier import ConnectionCarrier
from core.delivery.dispatcher import Dispatcher
from core.delivery.mailer import Mailer
from core.delivery.provider_keys import ProviderKeys
from core.delivery.replayer import Replayer
from core.delivery.smtp import sender_of
from core.delivery.systems.syncer import Syncer
from core.domain.webhooks.classify import Outcome
from core.engine.importer import Importer
from core.engine.leaving import contacts_leave
from core.engine.outcomes import deliveries_ended, messages_ended
from core.engine.scheduler import Scheduler
from core.engine.sealer import Sealer
from core.listening import CannotListen, listen, split_address, spoken
from core.loop import Loop
from core.rpc import metrics
from core.rpc.admission.authentication import Authenticator
from core.rpc.admission.limits import RateLimiter
from core.rpc.admission.sign_in import SignIn
from core.rpc.call import Parts
from core.rpc.in_process import InProcessChannel
from core.rpc.methods import Method, table
from core.rpc.pipeline import Pipeline
from core.rpc.server import GrpcServer
from core.settings import Settings
from core.store.control.usage import Used
from core.store.retention import Kept

if TYPE_CHECKING:
    from core.gateway.web_server import WebServer

_UPKEEP_SECONDS = 60.0


def _count_attempt(outcome: Outcome, _duration: timedelta) -> None:
    metrics.delivery_attempts_total.labels(outcome.value).inc()


def _count_use(used: Sequence[Used]) -> None:
    for one in used:
        if one.count and ":" not in one.metric:
            metrics.use_total.labels(one.subject_kind, one.metric).inc(one.count)
        if one.cost:
            metrics.cost_total.labels(one.subject_kind).inc(one.cost)


@dataclass(slots=True)
class Outward:
    """The pipeline with its servers, and what dispatchers and schedulers turn."""

    parts: Parts
    pipeline: Pipeline
    methods: tuple[Method, ...]
    scheduler: Scheduler
    importer: Importer
    sealer: Sealer
    dispatcher: Dispatcher
    mailer: Mailer
    replayer: Replayer
    syncer: Syncer
    grpc_target: str = ""
    http_url: str = ""
    _grpc: GrpcServer | None = None
    _channel: InProcessChannel | None = None
    _http: WebServer | None = None
    _serving: asyncio.Task[None] | None = None

    @classmethod
    def joined(cls, parts: Parts) -> Outward:
        """Join it to what a process is opened with; nothing runs yet. Raises ValueError for settings that say nothing.

        The handlers of every method are loaded: slow the first time.
        """
        settings, database, clock, driver = parts.settings, parts.database, parts.clock, parts.engine
        sender, vault = parts.webhook_sender, parts.vault
        authenticator = Authenticator(database, clock, SignIn(database, clock, ProviderKeys(sender, clock)))
        kept = Kept(
            settings.keep_webhooks_days, settings.keep_events_days, settings.keep_traces_days, settings.keep_audit_days
        )
        assert parts.systems is not None
        return cls(
            parts=parts,
            pipeline=Pipeline(parts, authenticator, RateLimiter(clock, settings.requests_per_second)),
            methods=table(),
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
            syncer=Syncer(database, parts.systems, clock, parts.draining, contacts_leave(driver)),
        )

    async def start_servers(self, ready: Callable[[], Awaitable[bool]]) -> None:
        """Listen for calls; `ready` tells who asks over HTTP whether to send more. Raises CannotListen."""
        roles = self.parts.settings.roles
        if roles & {"grpc", "http"}:
            await self._start_grpc()
        if "http" in roles:
            await self._start_http(ready)

    async def _start_grpc(self) -> None:
        settings = self.parts.settings
        self._grpc = GrpcServer(self.methods, self.pipeline)
        served = "grpc" in settings.roles
        address = settings.grpc_listen if served else "127.0.0.1:0"  # at least the programs here come in
        host, port = split_address(address)
        if served:
            listen(host, port).close()  # tells better than gRPC what is wrong
        try:
            (port,) = await self._grpc.start([(address, _credentials(settings) if served else None)])
        except RuntimeError as error:
            raise CannotListen(address) from error
        self.grpc_target = f"{spoken(host)}:{port}"
        self.parts.webhook_sender.refuse(host, port)

    async def _start_http(self, ready: Callable[[], Awaitable[bool]]) -> None:
        settings = self.parts.settings
        host, port = split_address(settings.http_listen)
        self._channel = InProcessChannel(self.methods, self.pipeline)
        await asyncio.to_thread(loading.load, "core.gateway.web_server")  # the engine's loops go on meanwhile
        from core.gateway.web_server import web_server

        http = web_server(
            self.pipeline, self.methods, settings, channel=self._channel, ready=ready, host=host, port=port
        )
        listener = listen(host, port)
        self._http = http
        serving = asyncio.create_task(http.serve([listener]), name="http")
        self._serving = serving
        await http.listening.wait()
        if serving.done():  # as over a certificate and a key that do not belong together
            listener.close()
            await serving
            raise CannotListen(settings.http_listen)
        port = listener.getsockname()[1]
        scheme = "https" if settings.tls_certificate else "http"
        self.http_url = f"{scheme}://{spoken(host)}:{port}"
        self.mailer.public_url = settings.public_url or self.http_url
        http.mcp.base_url = self.mailer.public_url.rstrip("/")
        self.parts.webhook_sender.refuse(host, port)

    async def recover(self) -> None:
        """Take back what a dead process had leased: nobody else sends from a file of SQLite's."""
        if not self.parts.database.is_postgresql:
            await self.dispatcher.recover()
            await self.mailer.recover()
            await self.syncer.recover()

    def loops(self) -> Iterator[Loop]:
        """Return the loops of this process's roles."""
        settings, clock, wakeups = self.parts.settings, self.parts.clock, self.parts.database.wakeups
        if "dispatcher" in settings.roles:
            yield Loop("dispatcher", self.dispatcher.turn, self.dispatcher.wake, clock)
            yield Loop("mailer", self.mailer.turn, self.mailer.wake, clock)
            yield Loop("replayer", self.replayer.turn, self.replayer.wake, clock)
            yield Loop("syncer", self.syncer.turn, self.syncer.wake, clock)
        if "scheduler" in settings.roles:
            yield Loop("scheduler", self.scheduler.turn, wakeups.event("scheduler"), clock, _UPKEEP_SECONDS)
            yield Loop("importer", self.importer.turn, wakeups.event("importer"), clock)
            yield Loop("sealer", self.sealer.turn, wakeups.event("sealer"), clock)

    async def warm(self) -> None:
        """Bring MCP up before anybody asks."""
        if self._http is not None:
            with contextlib.suppress(Exception):  # which is logged there, and tried anew by who asks
                await self._http.mcp.up()

    async def leave(self) -> None:
        """Take no new connection over HTTP, and end with the requests under way."""
        if self._http is not None and self._serving is not None:
            self._http.leave()
            await asyncio.wait([self._serving])

    async def stop(self, grace: float) -> None:
        """Finish the calls under way, then what is being sent, whatever fails on the way."""
        async with contextlib.AsyncExitStack() as closing:  # from the last to the first
            closing.push_async_callback(self._stop_sending, grace)
            closing.push_async_callback(self.pipeline.finish, grace)
            if self._grpc is not None:
                closing.push_async_callback(self._grpc.stop, grace)
            if self._channel is not None:  # after HTTP, whose MCP server calls by it
                closing.push_async_callback(self._channel.close, grace)

    async def _stop_sending(self, grace: float) -> None:
        ended = await asyncio.gather(self.dispatcher.stop(grace), self.mailer.stop(grace), return_exceptions=True)
        for one in ended:
            if isinstance(one, BaseException):
                raise one


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    pair = (settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())
    return grpc.ssl_server_credentials([pair])
