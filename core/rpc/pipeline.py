"""The one pipeline that admits every call: observe, authenticate, limit, authorise, validate, transact, map errors.

Every adapter, for gRPC, HTTP and callers in this process, calls `Pipeline.unary`, `stream` and `exchange`; nothing
about a call is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from typing import Any

import structlog
from google.protobuf.message import Message

from core import ids
from core.domain.control.key_limits import UNLIMITED
from core.domain.errors import AgentHeld, DripstoneError, RateLimited, ScopeMissing, StoreUnavailable, TookTooLong
from core.domain.frozen import frozen
from core.rpc import metrics
from core.rpc.admission import audit_trail, hiding, narrowing, permission, shape
from core.rpc.admission.authentication import Authenticator
from core.rpc.admission.fingerprint import request_hash, without_secrets
from core.rpc.admission.limits import RateLimiter
from core.rpc.call import Call, Caller, Parts
from core.rpc.client_stream import ClientStream
from core.rpc.errors import InternalError, grpc_code
from core.rpc.methods import ANY_KEY, Access, Method
from core.rpc.writing import written
from core.store import idempotency
from core.store.agents.agents import AgentState
from core.store.control import usage
from core.store.database import is_outage
from core.store.transaction import Transaction

_log = structlog.get_logger()
LONGEST_CALL_SECONDS = 60
"""For calls whose client set no deadline of its own."""

_REFERENCE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@frozen
class Reply:
    """An answer, and whether it was given before."""

    message: Message
    replayed: bool = False


class _DryRunOver(Exception):
    def __init__(self, message: Message):
        self.message = message


@frozen
class Pipeline:
    """The stages, in their order."""

    parts: Parts
    authenticator: Authenticator
    limiter: RateLimiter

    async def unary(self, method: Method, request: Message, metadata: Mapping[str, str]) -> Reply:
        """Admit and answer one call. `metadata` has lower-case names.

        Raises DripstoneError, and nothing else.
        """
        reference = self._reference(metadata)
        with self._observed(method, reference):
            async with asyncio.timeout(LONGEST_CALL_SECONDS):
                return await self.parts.under_way.to_its_end(self._answer(method, request, metadata, reference))

    async def unary_under_way(self, method: Method, request: Message, metadata: Mapping[str, str]) -> Reply:
        """Answer one call like `unary` does, for who carries work to its end and limits the waiting for it."""
        reference = self._reference(metadata)
        with self._observed(method, reference):
            return await self._answer(method, request, metadata, reference)

    async def stream(self, method: Method, request: Message, metadata: Mapping[str, str]) -> AsyncIterator[Message]:
        """Admit one call and yield its answers. Raises DripstoneError, and nothing else.

        The key is looked at again before each answer, so that a revoked one loses its streams as it loses its calls.
        """
        reference = self._reference(metadata)
        with self._observed(method, reference):
            call = await self.parts.under_way.to_its_end(self._admit(method, request, metadata, reference))
            call = await self.parts.under_way.to_its_end(permission.admit_outside(method, request, call))
            async with aclosing(method.handler(request, call)) as messages:
                async for message in messages:
                    authorization = metadata.get("authorization", "")
                    caller = await self.parts.under_way.to_its_end(self.authenticator.caller(authorization))
                    _authorise(method, caller)
                    yield hiding.shown(message, caller.limits)  # which may have been narrowed since

    async def exchange(
        self, method: Method, messages: AsyncIterable[Message], metadata: Mapping[str, str]
    ) -> AsyncIterator[Message]:
        """Admit one call that sends as it goes, and yield its answers. Raises DripstoneError, and nothing else.

        Each batch of what is sent is admitted like a call of its own: the key is looked at again, and who is faster
        than the key's rate limit is slowed down.
        """
        reference = self._reference(metadata)
        with self._observed(method, reference):
            call = await self.parts.under_way.to_its_end(self._admit(method, None, metadata, reference))
            call = await self.parts.under_way.to_its_end(permission.admit_outside(method, None, call))
            sent = ClientStream(messages, lambda: self._admit_more(method, metadata), self.parts.draining)
            async with aclosing(method.handler(sent, call)) as answers:
                async for answer in answers:
                    yield hiding.shown(answer, call.caller.limits)

    async def finish(self, seconds: float) -> None:
        """Wait for the calls whose clients have given up but whose work goes on."""
        await self.parts.under_way.finish(seconds)

    @contextmanager
    def _observed(self, method: Method, reference: str) -> Iterator[None]:
        """Count and time a call; whatever it raises becomes what the caller is told."""
        started, code = time.perf_counter(), 0
        try:
            yield
        except Exception as error:
            told = self._told(error, method, reference)
            code = grpc_code(told)
            raise told from error
        finally:
            seconds = time.perf_counter() - started
            metrics.rpc_seconds.labels(method.name, str(code)).observe(seconds)
            _log.debug("call", method=method.name, code=code, seconds=round(seconds, 6), reference=reference)

    def _reference(self, metadata: Mapping[str, str]) -> str:
        given = metadata.get("x-request-id", "")
        return given if _REFERENCE.fullmatch(given) else ids.mint("req", self.parts.clock.now())

    def _told(self, error: Exception, method: Method, reference: str) -> DripstoneError:
        """Return what the caller is told of an error; what nobody foresaw is logged and keeps its text to itself."""
        if isinstance(error, DripstoneError):
            return error
        if isinstance(error, TimeoutError):
            return TookTooLong(limit=LONGEST_CALL_SECONDS)
        if is_outage(error):
            _log.error("the database does not answer", method=method.name, error=type(error).__name__)
            return StoreUnavailable(retry_after=1.0)
        _log.error("call failed", method=method.name, reference=reference, exc_info=error)
        return InternalError(reference=reference)

    async def _answer(self, method: Method, request: Message, metadata: Mapping[str, str], reference: str) -> Reply:
        call = await self._admit(method, request, metadata, reference)
        with hiding.hidden_from_errors(call.caller.limits):
            return await self._transact(method, request, call)

    async def _admit(
        self, method: Method, request: Message | None, metadata: Mapping[str, str], reference: str
    ) -> Call:
        """Admit a call; one without a request is admitted before it has sent anything."""
        caller = await self.authenticator.caller(metadata.get("authorization", ""))
        self.limiter.admit(caller.key_id or caller.principal_id)
        _authorise(method, caller)
        if request is not None:
            shape.check(request)
            if caller.limits != UNLIMITED and (method.streaming or method.access is Access.OUTSIDE):
                async with self.parts.database.read(caller.org_id) as tx:  # its handler opens its own
                    await narrowing.judge(tx, method, request, caller)
        key: str = getattr(request, method.key_field) if method.key_field else ""
        now = self.parts.clock.now()
        return Call(caller, now, self.parts, key or reference, metadata, id=ids.mint("req", now))

    async def _admit_more(self, method: Method, metadata: Mapping[str, str]) -> None:
        """Admit what a call sends further; wait where its key has had its share of this second."""
        while True:
            caller = await self.parts.under_way.to_its_end(self.authenticator.caller(metadata.get("authorization", "")))
            _authorise(method, caller)
            try:
                self.limiter.admit(caller.key_id or caller.principal_id)
            except RateLimited as limited:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.parts.draining.wait(), limited.retry_after)
                    return  # the last of it: better taken now than sent again to another process
            else:
                return

    async def _transact(self, method: Method, request: Message, call: Call) -> Reply:
        database = self.parts.database
        if method.access is Access.OUTSIDE:
            call = await permission.admit_outside(method, request, call)
            return Reply(hiding.shown(await audit_trail.outside(method, request, call), call.caller.limits))
        if method.access is Access.READ:
            async with database.read(call.caller.org_id) as tx:
                await narrowing.judge(tx, method, request, call.caller)
                answer = await method.handler(request, call.within(tx))
                return Reply(hiding.shown(answer, call.caller.limits))
        try:
            return await written(
                database, call.caller.org_id, lambda tx: self._write(method, request, call.within(tx), tx)
            )
        except _DryRunOver as over:
            return Reply(over.message)
        except permission.NeedsApproval as wanted:
            raise await permission.ask(wanted, call) from None

    async def _write(self, method: Method, request: Any, call: Call, tx: Transaction) -> Reply:
        dry = bool(getattr(request, "validate_only", False))
        key: str = getattr(request, method.key_field) if method.key_field else ""
        owner = call.caller.principal_id
        if key and not dry:
            answer = await idempotency.begin(tx, owner, key, method.name, request_hash(method, request), call.id)
            if answer is not None:
                told = hiding.shown(method.response_class.FromString(answer.reply), call.caller.limits)
                return Reply(told, replayed=True)
        await narrowing.judge(tx, method, request, call.caller)
        was = None if dry else await audit_trail.before(tx, method, request)
        call = await permission.admit(method, request, call, tx)
        message: Message = await method.handler(request, call)
        await permission.charge(call)
        if was is None:
            raise _DryRunOver(hiding.shown(message, call.caller.limits))
        await audit_trail.note_call(tx, call, method, request, message, was)
        done = {"writes": 1, **tx.spent}
        await usage.note_call(tx, call.caller.org_id, owner, call.caller.agent_id, done)
        hiding.shown(message, call.caller.limits)
        if key and tx.answer_is_final:
            await idempotency.finish(tx, owner, key, without_secrets(message).SerializeToString())
        elif key:
            await idempotency.release(tx, owner, key)
        return Reply(message)


def _authorise(method: Method, caller: Caller) -> None:
    if method.scope != ANY_KEY and method.scope not in caller.scopes:
        raise ScopeMissing(scope=method.scope, method=method.name)
    if method.scope != ANY_KEY and caller.agent_state not in ("", AgentState.ACTIVE):
        state = caller.agent_state.replace("_", " ")
        raise AgentHeld(
            agent_id=caller.agent_id, state=state, why="its keys may do nothing as long as it is not at work"
        )
    narrowing.authorise(method, caller.limits)
    narrowing.refuse_streams(method, caller.limits)
