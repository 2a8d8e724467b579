"""Real transports: a process on standard input and output, and HTTP on a real port inside a host application."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitRequestParams, ElicitResult
from starlette.applications import Starlette
from starlette.routing import Mount

from mcp_server.app import build_app
from mcp_server.stdio import answers
from tests.mcp_server.stand_in import StandIn

pytestmark = pytest.mark.anyio

SERVE = "import anyio, sys; from mcp_server.stdio import serve_stdio; anyio.run(serve_stdio, *sys.argv[1:])"


async def test_a_process_on_stdio_speaks_nothing_but_protocol(core: StandIn, era: str) -> None:
    paths = [path for path in sys.path if path]
    command = StdioServerParameters(
        command=sys.executable,
        args=["-c", SERVE, core.grpc_target, core.api_key],
        env={"PYTHONPATH": ":".join(paths)},
    )
    async with Client(command, mode=era) as client:
        assert client.protocol_version == {"auto": "2026-07-28", "legacy": "2025-11-25"}[era]
        assert "enroll" in [tool.name for tool in (await client.list_tools()).tools]
        answer = await client.call_tool("get-record", {"record_id": "cnt_1"})
        assert answer.structured_content["fields"]["email"] == "ada@example.com"


async def test_answers_tells_a_core_that_knows_the_key_from_others(core: StandIn) -> None:
    assert await answers(core.grpc_target, core.api_key)
    assert not await answers(core.grpc_target, "dripstone_live_wrong")
    assert not await answers("127.0.0.1:1", core.api_key, within=0.2)


@asynccontextmanager
async def hosted(core: StandIn) -> AsyncIterator[str]:
    """Serve the application mounted in another one, on a real port."""
    inner = build_app(core.grpc_target)
    outer = Starlette(routes=[Mount("/", app=inner)], lifespan=lambda _: inner.router.lifespan_context(inner))
    server = uvicorn.Server(uvicorn.Config(outer, port=0, log_level="error", lifespan="on"))
    server.install_signal_handlers = lambda: None
    sockets = [server.config.bind_socket()]
    serving = asyncio.create_task(server.serve(sockets))
    yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}/mcp"
    server.should_exit = True
    await serving


@pytest.mark.parametrize(("below", "streams"), [("", False), ("/interactive", True)])
async def test_http_on_a_real_port_serves_both_eras_mounted_in_a_host(
    core: StandIn, era: str, below: str, streams: bool
) -> None:
    core.needs_approval = True
    headers = {"Authorization": f"Bearer {core.api_key}"}
    asked: list[str] = []
    heard: list[float] = []

    async def declines(_context: object, question: ElicitRequestParams) -> ElicitResult:
        asked.append(question.message)
        return ElicitResult(action="decline")

    async def hears(done: float, _total: float | None, _message: str | None) -> None:
        heard.append(done)

    async with (
        hosted(core) as url,
        httpx2.AsyncClient(headers=headers, verify=False) as http,
        Client(
            streamable_http_client(url + below, http_client=http), mode=era, elicitation_callback=declines
        ) as client,
    ):
        contacts = {"workflow_id": "nurture", "contacts": [{"email": "a@example.com"}]}
        answer = await client.call_tool("enroll", contacts, progress_callback=hears)
        assert answer.structured_content["enrolled_count"] == 1
        commit = {"lead_id": "lead_1", "mode": "commit", "idempotency_key": "k"}
        refused = (await client.call_tool("qualify-lead", commit)).structured_content["error"]["reason"]
    assert bool(heard) == streams
    can_be_asked = streams or era == "auto"
    assert (len(asked), refused) == ((1, "NOT_CONFIRMED") if can_be_asked else (0, "APPROVAL_REQUIRED"))
