"""Tool calls over streamable HTTP: to a core on a database, to our MCP server alone, or to the protocol's bare SDK.

The server is this process; the load comes from another, `tests.bench.jobs.mcp_load`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server import MCPServer
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from core.clock import ManualClock
from dripstone.v1 import organization_pb2, record_pb2
from dripstone.v1.client import Client
from mcp_server.app import Endpoint
from mcp_server.server import served_tools
from tests.bench import workload
from tests.bench.child import tell
from tests.running import RunningCore, running

_LANES = 16
_MOUNTS = {"json": "", "stream": "/interactive"}
_FIELDS = {"email": "ada@example.com", "first_name": "Ada"}


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Load the server that `serve` names; return, by mount, calls a second, p50 and p99 in ms, and us of CPU a call.

    `core` is a core on the empty database at `url` as `dripstone serve` runs it, `wire` the same with the MCP server
    calling it over gRPC's wire, `alone` our MCP server before a core that answers at once, and `echo` the bare SDK with
    a tool that returns its argument.
    """
    serving = {"core": _core, "wire": _wire, "alone": _alone, "echo": _echo}[spec["serve"]]
    found: dict[str, Any] = {}
    async with serving(spec) as (bases, call):
        for number, (mount, url) in enumerate(bases.items(), 1):
            before = time.process_time()
            took = await _loaded({**call, "url": url, "calls": spec["calls"], "lanes": _LANES})
            cpu = (time.process_time() - before) / took.pop("made") * 1e6
            found[mount] = {**took, "cpu": cpu}
            tell(done=number, total=len(bases))
    return found


_Serving = tuple[dict[str, str], dict[str, Any]]
"""Addresses by mount, and the call that is made: tool, arguments and key."""


@asynccontextmanager
async def _core(spec: dict[str, Any]) -> AsyncIterator[_Serving]:
    async with _running(spec) as (core, record_id):
        yield _mounts(core.mcp_url), _get_record(record_id, core.agent_key)


@asynccontextmanager
async def _wire(spec: dict[str, Any]) -> AsyncIterator[_Serving]:
    async with _running(spec) as (core, record_id), _served(Endpoint(core.grpc_target)) as mounts:
        yield mounts, _get_record(record_id, core.agent_key)


@asynccontextmanager
async def _running(spec: dict[str, Any]) -> AsyncIterator[tuple[RunningCore, str]]:
    """Run a core with one contact; yields the contact's id too."""
    clock = ManualClock(workload.START)
    async with running(spec["url"], Path(spec["folder"]), clock, requests_per_second=1e9) as core:
        async with core.client() as client:
            request = record_pb2.UpsertRecordRequest(type="contact", fields=_FIELDS)
            record = (await client.records.UpsertRecord(request)).record
        yield core, record.id


@asynccontextmanager
async def _alone(_spec: dict[str, Any]) -> AsyncIterator[_Serving]:
    endpoint = Endpoint("127.0.0.1:1")
    at_once: Any = _AtOnce("127.0.0.1:1", None)
    endpoint._client = at_once
    async with _served(endpoint) as mounts:
        yield mounts, _get_record("cnt_1", "dripstone_live_anybody")


@asynccontextmanager
async def _served(endpoint: Endpoint) -> AsyncIterator[dict[str, str]]:
    app = Starlette(routes=[Route("/mcp", endpoint), Route("/mcp/{view:path}", endpoint)])
    async with endpoint.running(), _listening(app) as base:
        yield _mounts(f"{base}/mcp")


@asynccontextmanager
async def _echo(_spec: dict[str, Any]) -> AsyncIterator[_Serving]:
    server: MCPServer[Any] = MCPServer("echo", log_level="ERROR")

    @server.tool()
    async def echo(text: str) -> str:
        """Return the text."""
        return text

    bases: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for mount, plain in (("json", True), ("stream", False)):
            app = server.streamable_http_app(json_response=plain)
            await stack.enter_async_context(server.session_manager.run())
            bases[mount] = f"{await stack.enter_async_context(_listening(app))}/mcp"
        yield bases, {"tool": "echo", "arguments": {"text": "ada@example.com"}, "key": ""}


class _AtOnce(Client):
    """A client of a core that answers at once and always the same, so that only the MCP server is measured."""

    async def __aenter__(self) -> Any:
        return self

    def with_key(self, api_key: str | None) -> Any:
        return self

    @property
    def organization(self) -> Any:  # type: ignore[override]  # as much of it as is called
        return self

    @property
    def records(self) -> Any:  # type: ignore[override]
        return self

    async def GetCaller(self, _request: Any) -> organization_pb2.Caller:
        scopes = {scope for tool in served_tools() for scope in tool.scopes}
        return organization_pb2.Caller(principal_id="key_1", organization_id="org_1", scopes=sorted(scopes))

    async def GetRecord(self, request: record_pb2.GetRecordRequest) -> record_pb2.Record:
        return record_pb2.Record(id=request.record_id, type="contact", etag="1", fields=_FIELDS)


def _mounts(base: str) -> dict[str, str]:
    return {mount: base + path for mount, path in _MOUNTS.items()}


def _get_record(record_id: str, key: str) -> dict[str, Any]:
    return {"tool": "get-record", "arguments": {"record_id": record_id}, "key": key}


class _Server(uvicorn.Server):
    """Uvicorn that says when it listens."""

    def __init__(self, config: uvicorn.Config):
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def _listening(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application as the core's web server does; yields its base address."""
    config = uvicorn.Config(app, port=0, log_level="error", access_log=False, lifespan="off")
    server, socket = _Server(config), config.bind_socket()
    serving = asyncio.create_task(server.serve([socket]))
    await server.listening.wait()
    yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    server.should_exit = True
    await serving


async def _loaded(spec: dict[str, Any]) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.jobs.mcp_load", json.dumps(spec), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load ended with {process.returncode}")
    found: dict[str, float] = json.loads(told)
    return found
