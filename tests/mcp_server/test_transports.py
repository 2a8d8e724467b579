"""HTTP on a real port inside a host application; processes on stdio are in tests/journeys/test_flagship.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitRequestParams, ElicitResult
from starlette.applications import Starlette
from starlette.routing import Mount

from dripstone.v1 import workflow_pb2
from mcp_server.app import build_app
from mcp_server.stdio import answers
from tests.mcp_server.by_http import contact
from tests.mcp_server.conftest import NURTURE
from tests.mcp_server.whole import guard
from tests.running import RunningCore

pytestmark = pytest.mark.anyio


async def test_answers_tells_a_core_that_knows_the_key_from_others(core: RunningCore) -> None:
    assert await answers(core.grpc_target, core.api_key)
    assert not await answers(core.grpc_target, "dripstone_live_wrong")
    assert not await answers("127.0.0.1:1", core.api_key, within=0.2)


@asynccontextmanager
async def hosted(core: RunningCore) -> AsyncIterator[str]:
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
    core: RunningCore, era: str, below: str, streams: bool
) -> None:
    await guard(core, "RecordService.UpdateRecord")
    async with core.client() as boss:
        await boss.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="nurture", source=NURTURE, publish=True)
        )
    ada = await contact(core, "ada")
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
        commit = {"record_id": ada, "fields": {"job_title": "CFO"}, "mode": "commit", "idempotency_key": "k"}
        refused = (await client.call_tool("update-record", commit)).structured_content["error"]["reason"]
    assert bool(heard) == streams
    can_be_asked = streams or era == "auto"
    assert (len(asked), refused) == ((1, "NOT_CONFIRMED") if can_be_asked else (0, "APPROVAL_REQUIRED"))
