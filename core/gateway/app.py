"""The web application: the contract's routes, the operator's routes, and whatever the bootstrap mounts beside them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cache

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount

from core import ids
from core.gateway import errors, openapi
from core.gateway.agent_skills import agent_skills
from core.gateway.headers import SafeHeaders
from core.gateway.inbound import Inbound
from core.gateway.operations import operations
from core.gateway.transcoder import ContractRoutes
from core.gateway.unsubscribe import unsubscribing
from core.gateway.webhook_keys import webhook_keys
from core.rpc.errors import InternalError
from core.rpc.methods import Method
from core.rpc.pipeline import Pipeline

Lifespan = Callable[[], AbstractAsyncContextManager[object]]


def build_app(
    pipeline: Pipeline,
    methods: Sequence[Method],
    *,
    ready: Callable[[], Awaitable[bool]],
    mounts: Sequence[BaseRoute] = (),
    lifespans: Sequence[Lifespan] = (),
) -> Starlette:
    """Return the application.

    `mounts` come first, as each route ahead of them would cost every call there; they claim nothing of the contract's.
    The lifespans of mounted applications run with this one's, and `lifespans` are further contexts to be open while it
    serves. Raises ValueError when the contract cannot be served.
    """
    contract = ContractRoutes(methods, pipeline)

    @cache  # made for the first who asks: most processes are never asked
    def document() -> bytes:
        return json.dumps(openapi.document(contract.bindings), separators=(",", ":")).encode()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for mount in mounts:
                if isinstance(mount, Mount) and isinstance(mount.app, Starlette):
                    await stack.enter_async_context(mount.app.router.lifespan_context(mount.app))
            for context in lifespans:
                await stack.enter_async_context(context())
            yield

    async def refuse(request: Request, error: Exception) -> Response:
        reference = ids.mint("req", pipeline.parts.clock.now())
        return _refusal(request, error, reference)

    return Starlette(
        routes=[
            *mounts,
            *operations(ready, document),
            *Inbound(pipeline.parts).routes(),
            *unsubscribing(pipeline.parts),
            webhook_keys(pipeline.parts.database),
            *agent_skills(),
            contract,
        ],
        middleware=[Middleware(SafeHeaders)],
        exception_handlers={HTTPException: refuse, Exception: refuse},
        lifespan=lifespan,
    )


def _refusal(request: Request, error: Exception, reference: str) -> Response:
    """Return the answer to what no route took, or what failed in a way nobody foresaw."""
    path = request.scope["path"][:200]
    told: errors.HttpRefusal | InternalError = InternalError(reference=reference)
    if isinstance(error, HTTPException) and error.status_code == 404:
        told = errors.RouteNotFound(path=path, near="")
    elif isinstance(error, HTTPException) and error.status_code == 405:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "GET").split(", ")))
        told = errors.MethodNotAllowed(verb=request.method, path=path, allowed=allowed)
    answer = errors.answer(told, errors.http_status(told), reference)
    answer.headers["X-Request-Id"] = reference
    return answer
