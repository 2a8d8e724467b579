"""Telling clients what has changed: each watched resource is followed in the core, under the key of who asked.

A cue says which address to read again and carries nothing else. `listen` serves the streams of the newer era,
`subscribe` and `unsubscribe` the sessions of the older one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import anyio
import grpc
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
    event_to_notification,
)
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from dripstone.v1.client import ApiError, Client
from dripstone.v1.enrollment_pb2 import WatchEnrollmentRequest
from mcp_server.callers import CALLER_SECONDS, Caller, Callers, presented_key
from mcp_server.readers import Content
from mcp_server.resources import Kind, kind_of

WATCHED = 32
"""Resources that one stream or session watches."""
STREAMS, STREAMS_OF_ONE = 512, 8
"""Streams that one process serves; of one principal. Its sessions together watch as much as its streams may."""
LOOK_SECONDS = 2.0
"""How often is looked at what the core streams no changes of; more rarely by one stream that watches many."""
AT_EASE = 8
"""Resources that one stream looks at in each of these spans."""

_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
_STATE = "dripstone.subscriptions"

Context = ServerRequestContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Watched:
    """A resource as it was when watching began."""

    uri: str
    kind: Kind
    name: str
    mark: Content


class Subscriptions:
    """Serves watching for every client of a process; what is watched is bounded, and nothing outlives its stream."""

    def __init__(
        self,
        callers: Callers,
        *,
        shows: Callable[[Context, Kind], bool] = lambda _ctx, _kind: True,
        look_seconds: float = LOOK_SECONDS,
        check_seconds: float = CALLER_SECONDS,
    ) -> None:
        """Serve `callers` what `shows` does not keep from where they came to."""
        self._callers = callers
        self._look_seconds = look_seconds
        self._check_seconds = check_seconds
        self._shows = shows
        self._streams: Counter[str] = Counter()
        self._watched: Counter[str] = Counter()

    async def listen(self, ctx: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """Tell of changes until the client hangs up, or its key is no longer good."""
        if ctx.request_id is None:
            raise MCPError(INVALID_REQUEST, "subscriptions/listen needs a request id.")
        caller = await self._caller(ctx)
        principal = caller.principal_id
        if self._streams[principal] >= STREAMS_OF_ONE or self._streams.total() >= STREAMS:
            raise MCPError(INTERNAL_ERROR, f"Too many streams are open; one key may have {STREAMS_OF_ONE}. Close one.")
        self._streams[principal] += 1
        try:
            return await self._listen(ctx, ctx.request_id, caller, params.notifications)
        finally:
            self._streams[principal] -= 1
            self._streams += Counter()  # forgets who has none

    async def _listen(
        self, ctx: Context, request_id: str | int, caller: Caller, wanted: SubscriptionFilter
    ) -> SubscriptionsListenResult:
        watched = await self._begin(ctx, wanted.resource_subscriptions or [])
        honored = SubscriptionFilter(
            tools_list_changed=wanted.tools_list_changed or None,
            prompts_list_changed=wanted.prompts_list_changed or None,
            resources_list_changed=wanted.resources_list_changed or None,
            resource_subscriptions=[one.uri for one in watched] or None,
        )
        meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: request_id}
        acknowledged = SubscriptionsAcknowledgedNotificationParams(notifications=honored, _meta=meta)
        await ctx.session.send_notification(
            SubscriptionsAcknowledgedNotification(params=acknowledged), related_request_id=request_id
        )
        cues = _Cues()
        pause = self._pause(len(watched))
        async with anyio.create_task_group() as group:
            for one in watched:
                group.start_soon(self._follow, ctx, one, pause, cues)
            group.start_soon(self._check, ctx, caller, honored, cues)
            while (cue := await cues.next()) is not None:
                await ctx.session.send_notification(event_to_notification(cue, meta), related_request_id=request_id)
            group.cancel_scope.cancel()
        if cues.refusal is not None:
            raise cues.refusal
        return SubscriptionsListenResult(_meta=meta)

    async def subscribe(self, ctx: Context, params: SubscribeRequestParams) -> EmptyResult:
        """Watch a resource for a session of the older era. Raises MCPError where nothing could be told later."""
        request = ctx.request
        if request is not None and "mcp-session-id" not in request.headers:
            raise MCPError(
                INVALID_REQUEST,
                "This connection has no session to tell changes on. Use the interactive address, "
                "or subscriptions/listen of protocol 2026-07-28.",
            )
        tasks = self._tasks(ctx)
        if params.uri in tasks:
            return EmptyResult()
        if len(tasks) >= WATCHED:
            raise MCPError(INVALID_PARAMS, f"A session watches at most {WATCHED} resources; unsubscribe from one.")
        found: asyncio.Future[Watched] = asyncio.get_running_loop().create_future()
        # The place is taken before anything is awaited; whoever ends the session, or unsubscribes, ends the task.
        task = tasks[params.uri] = asyncio.create_task(self._tell(ctx, params.uri, found, tasks), name="watch")
        try:
            principal = (await self._caller(ctx)).principal_id
            if self._watched[principal] >= WATCHED * STREAMS_OF_ONE or self._watched.total() >= WATCHED * STREAMS:
                raise MCPError(INTERNAL_ERROR, "Too many resources are watched under this key. Unsubscribe from some.")
            self._watched[principal] += 1
            task.add_done_callback(lambda _: self._forget(principal))
            (one,) = await self._begin(ctx, [params.uri])
        except BaseException:
            task.cancel()
            if tasks.get(params.uri) is task:
                del tasks[params.uri]
            raise
        if not found.done():
            found.set_result(one)
        return EmptyResult()

    def _forget(self, principal: str) -> None:
        self._watched[principal] -= 1
        self._watched += Counter()

    async def unsubscribe(self, ctx: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        """Stop watching a resource; one that is not watched stays so."""
        task = self._tasks(ctx).pop(params.uri, None)
        if task is not None:
            task.cancel()
        return EmptyResult()

    def _tasks(self, ctx: Context) -> dict[str, asyncio.Task[None]]:
        """Return the watchers of a session, which end with it."""
        connection = ctx.session._connection  # the library gives handlers no other way to what a session keeps
        tasks: dict[str, asyncio.Task[None]] | None = connection.state.get(_STATE)
        if tasks is None:
            tasks = connection.state[_STATE] = {}
            connection.exit_stack.callback(_cancel, tasks)
        return tasks

    async def _tell(
        self, ctx: Context, uri: str, found: asyncio.Future[Watched], tasks: dict[str, asyncio.Task[None]]
    ) -> None:
        try:
            one = await found
            async with aclosing(self._changes(ctx, one, self._pause(len(tasks)))) as changes:
                async for _ in changes:
                    await ctx.session.send_resource_updated(one.uri)
        except grpc.aio.AioRpcError:
            pass  # the key is no longer good: whoever reads again is told so
        finally:
            if tasks.get(uri) is asyncio.current_task():  # else it was subscribed to anew
                del tasks[uri]

    async def _follow(self, ctx: Context, one: Watched, pause: float, cues: _Cues) -> None:
        try:
            async with aclosing(self._changes(ctx, one, pause)) as changes:
                async for _ in changes:
                    cues.add(ResourceUpdated(one.uri))
        except grpc.aio.AioRpcError as error:
            cues.end(_refusal(error))

    async def _check(self, ctx: Context, known: Caller, honored: SubscriptionFilter, cues: _Cues) -> None:
        """Look now and then whether the key is still good, and what it may do."""
        lists: tuple[tuple[bool | None, ServerEvent], ...] = (
            (honored.tools_list_changed, ToolsListChanged()),
            (honored.prompts_list_changed, PromptsListChanged()),
            (honored.resources_list_changed, ResourcesListChanged()),
        )
        while True:
            await anyio.sleep(self._check_seconds)
            try:
                caller = await self._callers.caller(presented_key(ctx.request))
            except grpc.aio.AioRpcError as error:
                if error.code() in _PASSING:
                    continue
                cues.end(_refusal(error))
                return
            if (caller.scopes, caller.methods) != (known.scopes, known.methods):
                known = caller
                for wanted, cue in lists:
                    if wanted:
                        cues.add(cue)

    async def _caller(self, ctx: Context) -> Caller:
        try:
            return await self._callers.who(ctx.request)
        except grpc.aio.AioRpcError as error:
            raise _refusal(error) from None

    def _pause(self, watched: int) -> float:
        return self._look_seconds * max(1.0, watched / AT_EASE)

    async def _begin(self, ctx: Context, uris: Sequence[str]) -> list[Watched]:
        """Return what can be watched of these, each as it is now. Raises MCPError where that is none of them."""
        if len(uris) > WATCHED:
            raise MCPError(INVALID_PARAMS, f"One stream watches at most {WATCHED} resources; these are {len(uris)}.")
        client = self._callers.for_request(ctx.request)
        found: list[Watched] = []
        refused: list[str] = []
        for uri in dict.fromkeys(uris):
            named = kind_of(uri)
            if named is None or named[0].mark is None or not self._shows(ctx, named[0]):
                refused.append(f"{uri[:200]} cannot be watched")
                continue
            try:
                found.append(Watched(uri, *named, await named[0].mark(client, named[1])))
            except grpc.aio.AioRpcError as error:
                if error.code() in _PASSING:
                    raise _refusal(error) from None
                refused.append(f"{uri[:200]}: {ApiError.of(error).message}")
        if refused and not found:
            raise MCPError(INVALID_PARAMS, "; ".join(refused[:5]), data={"uris": [uri[:200] for uri in uris][:5]})
        return found

    async def _changes(self, ctx: Context, one: Watched, pause: float) -> AsyncGenerator[None, None]:
        """Yield whenever a resource has changed; once more, and last, when it is no longer there for this caller.

        Raises the core's error once the key is no longer good.
        """
        client = self._callers.for_request(ctx.request)
        enrollment_id = await _enrollment_of(client, one)
        follow = _streamed(client, one, enrollment_id, pause) if enrollment_id else _looked_at(client, one, pause)
        try:
            async with aclosing(follow) as found:
                async for changed in found:
                    if changed:
                        yield
                    else:  # a sign of life: a good moment to ask whether the key still is
                        await self._callers.caller(presented_key(ctx.request))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise
            yield


class _Cues:
    """What is still to be told to one client: each thing once, however often it changed meanwhile."""

    def __init__(self) -> None:
        self._pending: dict[ServerEvent, None] = {}
        self._wake = asyncio.Event()
        self._ended = False
        self.refusal: MCPError | None = None

    def add(self, cue: ServerEvent) -> None:
        self._pending[cue] = None
        self._wake.set()

    def end(self, refusal: MCPError | None = None) -> None:
        self.refusal = self.refusal or refusal
        self._ended = True
        self._wake.set()

    async def next(self) -> ServerEvent | None:
        """Return the next thing to tell; None when that was all."""
        while not self._pending:
            if self._ended:
                return None
            self._wake.clear()
            await self._wake.wait()
        cue = next(iter(self._pending))
        del self._pending[cue]
        return cue


async def _enrollment_of(client: Client, one: Watched) -> str:
    """Return the enrollment whose trace tells of a resource's changes; empty where there is none."""
    if one.kind.name == "enrollment":
        return one.name
    if one.kind.name == "execution":
        return str((await one.kind.read(client, one.name)).get("enrollment_id", ""))
    return ""


async def _streamed(client: Client, one: Watched, enrollment_id: str, pause: float) -> AsyncGenerator[bool, None]:
    """Yield True for each change that the core streams, False for its signs of life; end with the enrollment."""
    known, token = one.mark, ""
    assert one.kind.mark is not None
    while True:
        call = client.enrollments.WatchEnrollment(
            WatchEnrollmentRequest(enrollment_id=enrollment_id, resume_token=token)
        )
        try:
            async for piece in call:
                token = piece.resume_token
                yield False
                mark = {"etag": piece.enrollment.etag} if one.kind.name == "enrollment" else None
                now = mark or await one.kind.mark(client, one.name)
                if now != known:
                    known = now
                    yield True
            return
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.PERMISSION_DENIED and not token:
                break  # the key may read it and not follow it
            if error.code() not in _PASSING:
                raise
        finally:
            call.cancel()
        await anyio.sleep(pause)
    async with aclosing(_looked_at(client, one, pause)) as found:
        async for changed in found:
            yield changed


async def _looked_at(client: Client, one: Watched, pause: float) -> AsyncGenerator[bool, None]:
    """Yield True for each change that a look now and then finds, False for a look that finds none."""
    known = one.mark
    look: Callable[[Client, str], Any] | None = one.kind.mark
    assert look is not None
    while True:
        await anyio.sleep(pause)
        try:
            now = await look(client, one.name)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _PASSING:
                raise
            continue
        if now != known:
            known = now
            yield True


def _cancel(tasks: dict[str, asyncio.Task[None]]) -> None:
    for task in list(tasks.values()):
        task.cancel()


def _refusal(error: grpc.aio.AioRpcError) -> MCPError:
    told = ApiError.of(error)
    message = told.message if told.code not in ("INTERNAL", "UNKNOWN") else "The core could not answer."
    return MCPError(INTERNAL_ERROR, message or "The core does not answer.", data={"reason": told.reason})
