"""`dripstone listen`: fetches webhooks from the running core and POSTs each to a URL on this machine.

No tunnel is needed: the core hands messages out over the connection that this program opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from core.clock import SystemClock
from core.commands.telling import run
from core.domain.frozen import frozen

if TYPE_CHECKING:
    import aiohttp

    from dripstone.v1 import webhook_pb2 as pb
    from dripstone.v1.client import Client

AT_ONCE = 8
"""Messages under way to the local URL."""

FORWARD_SECONDS = 30
LEASE_SECONDS = 2 * FORWARD_SECONDS
"""Longer than any attempt, so that no message comes twice while the first one is answered."""

IDLE_SECONDS = 3_600
"""How long the core keeps the temporary endpoint when nobody listens: a laptop may sleep that long."""

_GRACE_SECONDS = 5.0
_CONNECT_AGAIN_SECONDS = 1.0
_ROW = "{:<8}  {:>6}  {:>8}  {:<28}  {}"


def _local_url(_ctx: Any, _param: Any, value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter(f"{value!r} is no address such as http://localhost:3000/hook")
    return value


@click.command(short_help="Forward webhooks to a URL on this machine.")
@click.option("--forward", "url", required=True, callback=_local_url, help="Where to POST each message.")
@click.option("--event-type", "event_types", multiple=True, help="May be repeated; default: all.")
@click.option("--endpoint", "endpoint_id", default="", help="A pull endpoint to use instead of a temporary one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a line each.")
def listen(url: str, event_types: tuple[str, ...], endpoint_id: str, as_json: bool) -> None:
    """Forward webhooks to a URL on this machine until Ctrl-C, with their signed headers.

    A temporary endpoint is made and deleted at the end; where this program was killed, the core deletes it an hour
    later. What the URL does not answer with 2xx is tried again on the endpoint's schedule. The running core is found by
    DRIPSTONE_TARGET and DRIPSTONE_API_KEY, else by connection.json in $DRIPSTONE_DATA_DIR or ./.dripstone.
    """
    if endpoint_id and event_types:
        raise click.UsageError("--endpoint has event types of its own; leave --event-type out.")
    run(_listen(url, event_types, endpoint_id, _Telling(as_json)))


@frozen
class _Telling:
    """What is printed."""

    as_json: bool

    def begun(self, endpoint_id: str, url: str, secret: str) -> None:
        if self.as_json:
            click.echo(json.dumps({"listening": endpoint_id, "forward": url, "secret": secret}))
            return
        click.echo(f"Forwarding {endpoint_id} to {url}. Ctrl-C ends it.")
        click.echo(f"Signing secret: {secret}\n" if secret else "Signed with the endpoint's own secret.\n")
        click.echo(_ROW.format("time", "status", "ms", "event type", "message"))

    def forwarded(self, message: pb.StreamedMessage, status: int, error: str, seconds: float) -> None:
        milliseconds = round(seconds * 1000)
        if self.as_json:
            told = {
                "message_id": message.message_id,
                "delivery_id": message.delivery_id,
                "event_type": message.event_type,
                "attempt": message.attempt,
                "ok": not error,
                "status": status,
                "error": error,
                "milliseconds": milliseconds,
            }
            click.echo(json.dumps(told))
            return
        more = f" (attempt {message.attempt})" if message.attempt > 1 else ""
        more += f": {error}" if error and not status else ""
        at = f"{SystemClock().now().astimezone():%H:%M:%S}"
        shown = (at, status or "-", milliseconds, message.event_type, f"{message.message_id}{more}")
        click.echo(_ROW.format(*shown))

    def note(self, text: str) -> None:
        click.echo(text, err=True)


async def _listen(url: str, event_types: tuple[str, ...], endpoint_id: str, telling: _Telling) -> None:
    import aiohttp

    from dripstone.v1.client import from_environment

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    timeout = aiohttp.ClientTimeout(total=FORWARD_SECONDS)
    async with (
        from_environment() as client,
        aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
        _endpoint(client, endpoint_id, event_types, telling) as (used, secret),
    ):
        telling.begun(used, url, secret)
        await _until(stopping, _Forwarder(client, session, used, url, telling))


@contextlib.asynccontextmanager
async def _endpoint(
    client: Client, endpoint_id: str, event_types: tuple[str, ...], telling: _Telling
) -> AsyncIterator[tuple[str, str]]:
    """Use the named endpoint, or make one for as long as this lasts; give its id, and its secret where it is new."""
    import grpc
    from google.protobuf.duration_pb2 import Duration

    from dripstone.v1 import webhook_pb2 as pb

    if endpoint_id:
        yield endpoint_id, ""
        return
    asked = pb.CreateEndpointRequest(
        kind=pb.ENDPOINT_KIND_PULL,
        description="Made by dripstone listen, which deletes it when it ends",
        event_types=event_types,
        retry_preset=pb.RETRY_PRESET_QUICK,
        idle_limit=Duration(seconds=IDLE_SECONDS),
    )
    made = await client.webhooks.CreateEndpoint(asked)
    try:
        yield made.endpoint.id, made.secret
    finally:
        gone = pb.DeleteEndpointRequest(endpoint_id=made.endpoint.id)
        try:
            await client.webhooks.DeleteEndpoint(gone, timeout=_GRACE_SECONDS)
        except grpc.aio.AioRpcError as error:
            telling.note(
                f"{made.endpoint.id} could not be deleted ({error.code().name}); it ends by itself in an hour."
            )


async def _until(stopping: asyncio.Event, forwarder: _Forwarder) -> None:
    """Forward until told to stop; what is under way then gets a moment to end."""
    streaming, stop = asyncio.create_task(forwarder.run()), asyncio.create_task(stopping.wait())
    await asyncio.wait({streaming, stop}, return_when=asyncio.FIRST_COMPLETED)
    for task in (streaming, stop):
        task.cancel()
    (ended, _) = await asyncio.gather(streaming, stop, return_exceptions=True)
    await forwarder.finish()
    if isinstance(ended, Exception):
        raise ended


@dataclass(slots=True)
class _Forwarder:
    """Carries messages from the stream to the URL, each in a task of its own."""

    client: Client
    session: aiohttp.ClientSession
    endpoint_id: str
    url: str
    telling: _Telling
    _under_way: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def run(self) -> None:
        """Stream for ever; a core that goes away is waited for."""
        import grpc
        from google.protobuf.duration_pb2 import Duration

        from dripstone.v1 import webhook_pb2 as pb

        asked = pb.StreamMessagesRequest(
            endpoint_id=self.endpoint_id, max_in_flight=AT_ONCE, lease=Duration(seconds=LEASE_SECONDS)
        )
        away = False
        while True:
            try:
                async for message in self.client.webhooks.StreamMessages(asked):
                    away = False
                    task = asyncio.create_task(self._forward(message))
                    self._under_way.add(task)
                    task.add_done_callback(self._under_way.discard)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                if not away:
                    self.telling.note("The core went away; waiting for it.")
                away = True
            await asyncio.sleep(_CONNECT_AGAIN_SECONDS)

    async def finish(self) -> None:
        """Let what is under way end, for a moment; the rest is handed out again when its lease ends."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=_GRACE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _forward(self, message: pb.StreamedMessage) -> None:
        import grpc

        from dripstone.v1 import webhook_pb2 as pb

        started = time.perf_counter()
        status, error = await self._post(message)
        self.telling.forwarded(message, status, error, time.perf_counter() - started)
        ack = pb.MessageAck(delivery_id=message.delivery_id, lease_token=message.lease_token, ok=not error, error=error)
        try:
            await self.client.webhooks.AckMessages(pb.AckMessagesRequest(endpoint_id=self.endpoint_id, acks=[ack]))
        except grpc.aio.AioRpcError as refused:
            self.telling.note(f"{message.message_id} could not be acknowledged ({refused.code().name}); it comes again")

    async def _post(self, message: pb.StreamedMessage) -> tuple[int, str]:
        """Return the status that the URL answered with, 0 for none, and what went wrong."""
        import aiohttp

        try:
            async with self.session.post(
                self.url, data=message.payload.encode(), headers=dict(message.headers), allow_redirects=False
            ) as response:
                status = response.status
                response.close()  # what else it says is of no use here
        except TimeoutError:
            return 0, f"no answer within {FORWARD_SECONDS} s"
        except (aiohttp.ClientError, OSError) as error:
            return 0, _plain(error)
        return status, "" if 200 <= status < 300 else f"HTTP {status}"


def _plain(error: Exception) -> str:
    cause = getattr(error, "os_error", error)
    number = getattr(cause, "errno", None)
    if number is not None and number > 0:
        return os.strerror(number)
    return (getattr(cause, "strerror", None) or type(error).__name__)[:200]
