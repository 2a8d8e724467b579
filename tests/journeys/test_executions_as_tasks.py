"""Runs of workflows as MCP tasks: begun by a call, followed, answered in the middle, cancelled; the core keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ElicitResult

from core import provisioning
from dripstone.v1 import enrollment_pb2
from dripstone.v1.client import Client as CoreClient
from mcp_server.extensions.tasks import TASKS
from mcp_server.server import build_server
from tests.journeys.following import Story
from tests.journeys.task_client import Handle, TaskClient, about
from tests.running import NO_ROOTS, RunningCore

pytestmark = pytest.mark.anyio

JUDGE = """
title: Judge
steps:
  - id: think
    kind: agent_task
    title: "What next for {{ contact.email }}?"
    instructions: Say the next step.
    output_schema:
      type: object
      properties: {next: {type: string, enum: [call, wait]}}
      required: [next]
      additionalProperties: false
    timeout: 3d
    exits: {timeout: end}
  - {id: done, kind: log, message: "{{ steps.think.next }}"}
"""
GATE = """
title: Gate
steps:
  - {id: agree, kind: approval, title: Go on?, timeout: 2h, exits: {rejected: end, timeout: end}}
  - {id: done, kind: log, message: done}
"""
BREAK = """
title: Short
steps:
  - {id: hello, kind: log, message: hello}
"""


async def never(_context: Any, _params: Any) -> ElicitResult:
    raise AssertionError("a task's questions come with the task")


@asynccontextmanager
async def connected(core: RunningCore, key: str = "", **options: Any) -> AsyncIterator[Client]:
    """Connect through a server object of its own: none of them knows what another has begun."""
    toolsets = options.pop("toolsets", ())
    settings = {"extensions": [TaskClient()], "elicitation_callback": never} | options
    async with (
        CoreClient(core.grpc_target, key or core.agent_key) as client,
        Client(build_server(lambda _: client, toolsets=toolsets), **settings) as made,
    ):
        yield made


@pytest.fixture(autouse=True)
async def published(core: RunningCore) -> None:
    async with core.client() as client:
        story = Story(client)
        for name, source in (("judge", JUDGE), ("gate", GATE), ("short", BREAK)):
            await story.publish(name, source)


async def run(client: Client, workflow_id: str, key: str = "k") -> Any:
    arguments = {
        "workflow_id": workflow_id,
        "input": {"email": "ada@example.com"},
        "mode": "commit",
        "idempotency_key": key,
    }
    return await client.session.call_tool("execute-workflow", arguments, allow_claimed=True)


async def refused(client: Client, method: str, task_id: str, **more: Any) -> int:
    with pytest.raises(MCPError) as caught:
        await about(client.session, method, task_id, **more)
    return caught.value.error.code


async def test_a_run_is_followed_answered_in_the_middle_and_brings_its_result(core: RunningCore) -> None:
    async with connected(core) as client:
        begun = await run(client, "judge")
        assert isinstance(begun, Handle)
        assert begun.task_id.startswith("exe_")
        again = await run(client, "judge")
        assert again.task_id == begun.task_id  # the same call is the same task
    async with connected(core) as client:  # another replica, a later day
        await core.settle()
        asked = await about(client.session, "get", begun.task_id)
        assert asked["status"] == "input_required"
        ((key, question),) = asked["inputRequests"].items()
        assert question["params"]["requestedSchema"]["properties"] == {
            "next": {"type": "string", "enum": ["call", "wait"]}
        }
        assert "ada@example.com" in question["params"]["message"]
        strange = {"tsk_other": {"action": "accept", "content": {"next": "call"}}}
        await about(client.session, "update", begun.task_id, inputResponses=strange)
        unfit = {key: {"action": "accept", "content": {"next": "sing"}}}
        assert await refused(client, "update", begun.task_id, inputResponses=unfit) == -32602
        declined = {key: {"action": "decline"}}
        await about(client.session, "update", begun.task_id, inputResponses=declined)
        assert (await about(client.session, "get", begun.task_id))["status"] == "input_required"
        fit = {key: {"action": "accept", "content": {"next": "call"}}}
        await about(client.session, "update", begun.task_id, inputResponses=fit)
        sent_under = "task-" + hashlib.sha256(f"{begun.task_id}/{key}".encode()).hexdigest()[:32]
        known = await client.call_tool("get-call", {"idempotency_key": sent_under})
        assert known.structured_content["known"]  # sent again it does nothing again
        await core.settle()
        done = await about(client.session, "get", begun.task_id)
        assert (done["status"], done["result"]["isError"]) == ("completed", False)
        assert done["result"]["structuredContent"]["state"] == "succeeded"
        assert done["result"]["content"][0]["text"]


async def test_who_must_decide_is_asked_and_who_started_it_is_not(core: RunningCore) -> None:
    async with connected(core) as agent, connected(core, core.approver_api_key) as approver:
        begun = await run(agent, "gate")
        await core.settle()
        waits = await about(agent.session, "get", begun.task_id)
        assert (waits["status"], "inputRequests" in waits) == ("working", False)
        assert "approval" in waits["statusMessage"]
        ((key, _),) = (await about(approver.session, "get", begun.task_id))["inputRequests"].items()
        yes = {key: {"action": "accept", "content": {"decision": "approve"}}}
        await about(agent.session, "update", begun.task_id, inputResponses=yes)  # knows the key, and may not use it
        assert (await about(agent.session, "get", begun.task_id))["status"] == "working"
        async with connected(core, core.api_key, toolsets=("read", "operate")) as elsewhere:
            assert "inputRequests" not in await about(elsewhere.session, "get", begun.task_id)
            await about(elsewhere.session, "update", begun.task_id, inputResponses=yes)  # nobody decides there
        assert (await about(agent.session, "get", begun.task_id))["status"] == "working"
        async with connected(core, toolsets=("operate",)) as blind:  # where no task can be asked for, none is made
            assert isinstance(await run(blind, "gate"), CallToolResult)
        await about(approver.session, "update", begun.task_id, inputResponses=yes)
        await core.settle()
        assert (await about(agent.session, "get", begun.task_id))["status"] == "completed"


async def test_tasks_are_for_clients_that_know_them_and_for_their_own_organization(core: RunningCore) -> None:
    async with connected(core) as client:
        begun = await run(client, "judge")
        assert isinstance(await run(client, "short", "s"), CallToolResult)  # over before it is answered
    stranger = await provisioning.create_organization(core.core.database, "Rival")
    async with connected(core, stranger.api_key) as rival:
        for method in ("get", "update", "cancel"):
            assert await refused(rival, method, begun.task_id) == -32602
    async with connected(core, extensions=None) as plain:
        assert TASKS in (plain.server_capabilities.extensions or {})
        assert isinstance(await run(plain, "judge", "p"), CallToolResult)
        assert await refused(plain, "get", begun.task_id) == -32021
    async with connected(core, mode="legacy", extensions=None) as legacy:
        assert isinstance(await run(legacy, "judge", "l"), CallToolResult)


async def test_a_run_is_watched_step_by_step_until_it_is_cancelled(core: RunningCore) -> None:
    told: list[str] = []

    async def show(_done: float, _total: float | None, message: str | None) -> None:
        told.append(message or "")
        if len(told) == 1:
            await about(client.session, "cancel", begun.task_id)

    async with connected(core, elicitation_callback=None) as client:
        begun = await run(client, "judge")
        waits = await about(client.session, "get", begun.task_id)
        assert waits["status"] == "working"  # nobody can be asked here: what it waits for is told instead
        assert "tsk_" in waits["statusMessage"]
        watch = {"execution_id": begun.task_id, "wait": 5}
        result = await client.call_tool("get-execution", watch, progress_callback=show)
        assert result.structured_content["state"] == "cancelled"
        assert told[0].startswith("think")
        assert (await about(client.session, "get", begun.task_id))["status"] == "cancelled"
        await about(client.session, "cancel", begun.task_id)  # once more does no harm
        assert await refused(client, "cancel", "exe_nothing") == -32602


async def test_over_http_a_task_is_asked_for_by_its_own_header(core: RunningCore) -> None:
    key = {"Authorization": f"Bearer {core.agent_key}"}
    async with (
        httpx2.AsyncClient(headers=key, verify=NO_ROOTS) as http,
        Client(streamable_http_client(core.mcp_url, http_client=http), extensions=[TaskClient()]) as client,
    ):
        begun = await run(client, "judge")
        assert (await about(client.session, "get", begun.task_id))["taskId"] == begun.task_id
        declared = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
        }
        params = {"taskId": begun.task_id, "_meta": declared}
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tasks/get",
            "Mcp-Name": "exe_another",
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": params}
        answer = await http.post(core.mcp_url, json=body, headers=headers)
        assert answer.json()["error"]["code"] == -32020


async def test_a_call_that_its_client_gives_up_is_done_whole_or_not_at_all(core: RunningCore) -> None:
    contacts = [{"email": f"c{n}@example.com"} for n in range(60)]
    call = {"workflow_id": "short", "contacts": contacts, "mode": "commit", "idempotency_key": "all"}
    async with connected(core) as client:
        for turns in (1, 20, 200):
            with anyio.CancelScope() as given_up:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(client.call_tool, "enroll", call)
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    given_up.cancel()
        answer = await client.call_tool("enroll", call)
        assert answer.structured_content["counts"] == {"enrolled": 60}
    async with core.client() as boss:
        listed = await boss.enrollments.ListEnrollments(
            enrollment_pb2.ListEnrollmentsRequest(workflow_id="short", page_size=200)
        )
    assert len(listed.enrollments) == 60
