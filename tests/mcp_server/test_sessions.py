"""Sessions, streams and the states of questions: whose they are, how many there may be, and when they end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import anyio
import httpx2
import pytest
from mcp import MCPError
from mcp.server.request_state import RequestStateBoundary
from mcp.types import CallToolResult, ElicitResult, InputRequiredResult
from starlette.applications import Starlette

from dripstone.v1 import organization_pb2
from dripstone.v1.client import Client as CoreClient
from mcp_server import app as http_app
from mcp_server import sessions
from mcp_server.callers import VISIT, Caller, Visit
from mcp_server.server import build_server
from mcp_server.views import WHOLE
from tests.mcp_server.by_http import LEGACY, browser, contact, over_http, web
from tests.mcp_server.whole import guard
from tests.rpc.control_calls import new_key
from tests.running import RunningCore

pytestmark = pytest.mark.anyio


async def test_a_session_is_its_owners_and_a_stream_ends_with_its_key(
    core: RunningCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_app, "LOOKS_AGAIN_SECONDS", 0.01)
    begin = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }  # fmt: skip
    headers = {"accept": "application/json, text/event-stream", **LEGACY}
    async with core.client() as boss:
        made = await new_key(boss)
    async with web(core) as app, browser(app, made.secret) as owner, browser(app, core.agent_key) as other:

        async def opened(by: httpx2.AsyncClient) -> httpx2.Response:
            return await by.post("/mcp/interactive", json=begin, headers=headers)

        session = {**headers, "mcp-session-id": (await opened(owner)).headers["mcp-session-id"]}
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        assert (await other.post("/mcp/interactive", json=ping, headers=session)).status_code == 404
        assert (await owner.post("/mcp/interactive", json=ping, headers=session)).status_code == 200
        monkeypatch.setattr(sessions, "MOST_OF_ONE", 1)
        assert (await opened(owner)).status_code == 429
        at_once = await asyncio.gather(opened(other), opened(other))
        assert sorted(answer.status_code for answer in at_once) == [200, 429]
        assert (await owner.delete("/mcp/interactive", headers=session)).status_code == 200
        session["mcp-session-id"] = (await opened(owner)).headers["mcp-session-id"]
        async with core.client() as boss:
            await boss.organization.RevokeApiKey(organization_pb2.RevokeApiKeyRequest(api_key_id=made.api_key.id))
        with anyio.fail_after(5):  # what is believed of the key still opens the stream
            assert (await owner.get("/mcp/interactive", headers=session)).status_code == 200
        assert (await owner.get("/mcp/interactive", headers=session)).status_code == 401


async def test_a_session_counts_as_long_as_it_lives_and_among_those_of_its_organization(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "MOST_OF_ORGANIZATION", 2)
    live: set[str] = set()
    book = sessions.Sessions(lambda: live)
    callers = [Caller(f"key_{n}", "", frozenset(), "org_1") for n in range(3)]

    async def send(_message: object) -> None:
        pass

    for name, caller in zip("ab", callers, strict=False):
        place = book.place_for(caller)
        assert place is not None
        headers = [(b"mcp-session-id", name.encode())]
        await place.noting(send)({"type": "http.response.start", "status": 200, "headers": headers})
        live.add(name)
        place.opened()
    assert book.place_for(callers[2]) is None
    assert book.place_for(Caller("key_9", "", frozenset(), "org_2")) is not None
    live.remove("a")
    assert book.place_for(callers[2]) is not None


def test_a_state_is_its_owners_whether_or_not_replicas_share_keys() -> None:
    visit = Visit(Caller("key_1", "", frozenset(), "org_1"), WHOLE, "dripstone_live_1")
    ctx = SimpleNamespace(request=SimpleNamespace(scope={VISIT: visit}))
    for keys in ((), (b"1" * 32,)):
        policy = build_server(CoreClient, state_keys=keys)._lowlevel_server.middleware
        (boundary,) = (one for one in policy if isinstance(one, RequestStateBoundary))
        assert boundary._security.bind_principal(ctx) == "org_1/key_1"  # type: ignore[misc, arg-type]


OLD, NEW = b"1" * 32, b"2" * 32


@pytest.fixture
async def commit(core: RunningCore) -> dict[str, object]:
    """Return the arguments of a commit that somebody else must approve, and that its person is asked about before."""
    await guard(core, "RecordService.UpdateRecord")
    fields = {"job_title": "CFO"}
    return {"record_id": await contact(core, "ada"), "fields": fields, "mode": "commit", "idempotency_key": "k"}


YES = ElicitResult(action="accept", content={"confirm": True})


async def asked_at(replica: Starlette, key: str, commit: dict[str, object]) -> InputRequiredResult:
    """Make the first round of a call that asks; return its question."""
    async with over_http(replica, key, "auto", asks=True) as client:
        asked = await client.session.call_tool("update-record", commit, allow_input_required=True)
    assert isinstance(asked, InputRequiredResult)
    return asked


async def answered_at(replica: Starlette, key: str, commit: dict[str, object], asked: InputRequiredResult) -> str:
    """Go on with the answer; return why the core refused it, or why nobody even asked the core."""
    answers = dict.fromkeys(asked.input_requests or {}, YES)
    async with over_http(replica, key, "auto", asks=True) as client:
        try:
            refused = await client.session.call_tool(
                "update-record", commit, input_responses=answers, request_state=asked.request_state
            )
        except MCPError as error:
            return error.message
    assert isinstance(refused, CallToolResult)
    assert refused.structured_content is not None
    return str(refused.structured_content["error"]["reason"])


async def test_without_a_session_a_client_of_the_older_revision_asks_nobody_and_decides_nothing(
    core: RunningCore, commit: dict[str, object]
) -> None:
    async with web(core) as app:
        async with over_http(app, core.agent_key, "legacy") as agent:
            wanted = (await agent.call_tool("update-record", commit)).structured_content["error"]
        async with over_http(app, core.approver_api_key, "legacy", asks=True) as approver:
            found = (await approver.call_tool("list-approvals", {})).structured_content["approvals"][0]
            decision = {"approval_id": found["approval_id"], "subject_hash": found["subject_hash"]}
            told = await approver.call_tool("decide-approval", {**decision, "decision": "approve", "mode": "commit"})
            (after,) = (await approver.call_tool("list-approvals", {})).structured_content["approvals"]
    assert found["approval_id"] == wanted["approval_id"]
    error = told.structured_content["error"]
    assert (error["reason"], after["state"]) == ("PERSON_REQUIRED", "pending")
    assert "/mcp/interactive" in error["hint"]


@pytest.mark.parametrize(
    ("one_has", "other_has", "goes_on"),
    [((OLD,), (OLD,), True), ((OLD,), (NEW,), False), ((OLD,), (NEW, OLD), True), ((NEW, OLD), (OLD, NEW), True)],
    ids=["the same", "others", "rotated there", "rotated here"],
)
async def test_a_call_that_asks_goes_on_at_any_replica_that_knows_the_key_of_its_state(
    core: RunningCore,
    commit: dict[str, object],
    one_has: tuple[bytes, ...],
    other_has: tuple[bytes, ...],
    goes_on: bool,
) -> None:
    async with web(core, state_keys=one_has) as one, web(core, state_keys=other_has) as other:
        asked = await asked_at(one, core.api_key, commit)
        told = await answered_at(other, core.api_key, commit, asked)
    assert told == "APPROVAL_REQUIRED" if goes_on else "requestState" in told


async def test_a_call_that_asks_goes_on_with_the_new_secret_of_its_key_and_with_no_other_key(
    core: RunningCore, commit: dict[str, object]
) -> None:
    async with core.client() as boss, web(core, state_keys=(OLD,)) as one, web(core, state_keys=(NEW, OLD)) as other:
        made = await new_key(boss)
        asked = await asked_at(one, made.secret, commit)
        rotate = organization_pb2.RotateApiKeyRequest(api_key_id=made.api_key.id)
        rotated = (await boss.organization.RotateApiKey(rotate)).secret
        assert "requestState" in await answered_at(other, core.api_key, commit, asked)
        assert await answered_at(other, rotated, commit, asked) == "APPROVAL_REQUIRED"
