"""A gRPC server that knows every key and answers all else with one error, for those that no core gives on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_status import rpc_status

from core.domain.control.scopes import ALL_SCOPES
from core.domain.errors import DripstoneError
from core.rpc.errors import to_status
from dripstone.v1 import organization_pb2

NO_RETRY = (("grpc-retry-pushback-ms", "-1"),)
"""Asks the client not to try what is unavailable again: a test need not wait for that."""

CALLER = organization_pb2.Caller(organization_id="org_1", principal_id="key_1", scopes=sorted(ALL_SCOPES))


class Failing(grpc.GenericRpcHandler):  # type: ignore[misc]
    """What it answers with is `error`, of the core or a bare status; `asked` are the methods called, with requests."""

    def __init__(self) -> None:
        self.target = ""
        self.error: DripstoneError | tuple[grpc.StatusCode, str] = (grpc.StatusCode.UNAVAILABLE, "")
        self.asked: list[tuple[str, bytes]] = []
        self.knows_keys = True

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Return who carries a call out."""
        method = details.method.rpartition("/")[2]

        async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            if method == "GetCaller" and self.knows_keys:
                return CALLER.SerializeToString()
            self.asked.append((method, request))
            code, details, more = self._said()
            return await context.abort(code, details, (*more, *NO_RETRY))

        return grpc.unary_unary_rpc_method_handler(answer)

    def _said(self) -> tuple[grpc.StatusCode, str, Any]:
        if isinstance(self.error, tuple):
            return *self.error, ()
        status = rpc_status.to_status(to_status(self.error))
        return status.code, status.details, status.trailing_metadata


@asynccontextmanager
async def failing() -> AsyncIterator[Failing]:
    """Serve on a port of its own."""
    handler, server = Failing(), grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    handler.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield handler
    await server.stop(None)
