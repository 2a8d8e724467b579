"""MCP over standard input and output: the process speaks for the one key it was started with."""

from __future__ import annotations

from collections.abc import Collection

import grpc

from dripstone.v1 import organization_pb2
from dripstone.v1.client import Client
from mcp_server.callers import METADATA
from mcp_server.server import build_server


async def answers(target: str, api_key: str, *, tls: bool | bytes | None = None, within: float = 3.0) -> bool:
    """Tell whether a core answers at a target and knows the key, `within` seconds."""
    async with Client(target, api_key, tls=tls, deadline=within) as client:
        try:
            await client.organization.GetCaller(organization_pb2.GetCallerRequest())
        except grpc.aio.AioRpcError:
            return False
        return True


async def serve_stdio(
    target: str,
    api_key: str,
    *,
    tls: bool | bytes | None = None,
    toolsets: Collection[str] = (),
    read_only: bool = False,
) -> None:
    """Connect to a core and serve it over standard input and output until the input ends; see build_server."""
    async with Client(target, api_key, tls=tls, metadata=METADATA) as client:
        await run_stdio(client, toolsets=toolsets, read_only=read_only)


async def run_stdio(client: Client, *, toolsets: Collection[str] = (), read_only: bool = False) -> None:
    """Serve an open client's core until the input ends. Nothing but protocol is written to standard output."""
    await build_server(lambda _: client, toolsets=toolsets, read_only=read_only).run_stdio_async()
