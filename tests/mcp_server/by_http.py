"""How tests reach the MCP server over HTTP, as a browser would and as clients do, with keys that they mint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult
from starlette.applications import Starlette
from starlette.types import ASGIApp

from dripstone.v1 import organization_pb2, record_pb2
from mcp_server.app import build_app
from mcp_server.deployment import Deployment
from tests.rpc.control_calls import new_key
from tests.running import RunningCore

LEGACY = {"mcp-protocol-version": "2025-11-25"}
READS = ["records:read", "workflows:read"]


async def key_of(core: RunningCore, *scopes: str, methods: Collection[str] = ()) -> str:
    """Mint a key; `methods` are the only ones it may call."""
    limits = organization_pb2.KeyLimits(methods=methods)
    async with core.client() as boss:
        return (await new_key(boss, scopes, limits=limits)).secret


async def contact(core: RunningCore, name: str) -> str:
    """Add a contact and return its id."""
    async with core.client() as client:
        request = record_pb2.UpsertRecordRequest(type="contact", fields={"email": f"{name}@example.com"})
        return (await client.records.UpsertRecord(request)).record.id


@asynccontextmanager
async def web(core: RunningCore, **decided: object) -> AsyncIterator[Starlette]:
    """Run the HTTP application as its host does."""
    app = build_app(core.grpc_target, Deployment(**decided))  # type: ignore[arg-type]
    async with app.router.lifespan_context(app):
        yield app


def browser(app: ASGIApp, key: str = "", host: str = "127.0.0.1:8000") -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=f"http://{host}", headers=headers)


@asynccontextmanager
async def over_http(
    app: Starlette, key: str, era: str, path: str = "/mcp", *, asks: bool = False
) -> AsyncIterator[Client]:
    """Connect a client; one that `asks` could put a question to its person."""

    async def nobody(_context: object, _question: object) -> ElicitResult:
        raise AssertionError("nobody is asked by this client")

    url = f"http://127.0.0.1:8000{path}"
    async with (
        browser(app, key) as http,
        Client(
            streamable_http_client(url, http_client=http), mode=era, elicitation_callback=nobody if asks else None
        ) as client,
    ):
        yield client
