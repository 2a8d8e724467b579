"""Sessions, streams and the states of questions: whose they are, how many there may be, and when they end."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server.request_state import RequestStateBoundary
from mcp.types import ElicitRequestParams, ElicitResult
from starlette.types import Receive, Scope, Send

from core.domain import errors
from dripstone.v1.client import Client as CoreClient
from mcp_server import app as http_app
from mcp_server import sessions
from mcp_server.callers import VISIT, Caller, Visit
from mcp_server.server import build_server
from mcp_server.views import WHOLE
from tests.mcp_server.stand_in import StandIn
from tests.mcp_server.test_access import LEGACY, browser, web

pytestmark = pytest.mark.anyio


async def test_a_session_is_its_owners_and_a_stream_ends_with_its_key(
    core: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_app, "LOOKS_AGAIN_SECONDS", 0.01)
    begin = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }  # fmt: skip
    headers = {"accept": "application/json, text/event-stream"}
    async with web(core) as app, browser(app, core.api_key) as owner, browser(app, core.reader_api_key) as other:
        begun = await owner.post("/mcp/interactive", json=begin, headers=headers)
        headers |= {"mcp-session-id": begun.headers["mcp-session-id"], **LEGACY}
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        assert (await other.post("/mcp/interactive", json=ping, headers=headers)).status_code == 404
        assert (await owner.post("/mcp/interactive", json=ping, headers=headers)).status_code == 200
        monkeypatch.setattr(sessions, "MOST_OF_ONE", 1)
        again = {name: value for name, value in headers.items() if name != "mcp-session-id"}
        assert (await owner.post("/mcp/interactive", json=begin, headers=again)).status_code == 429
        at_once: list[int] = []

        async def open_one() -> None:
            at_once.append((await other.post("/mcp/interactive", json=begin, headers=again)).status_code)

        async with anyio.create_task_group() as group:
            group.start_soon(open_one)
            group.start_soon(open_one)
        assert sorted(at_once) == [200, 429]
        core.broken = errors.Unauthenticated()  # what is believed of the key still opens the stream
        with anyio.fail_after(5):
            await owner.get("/mcp/interactive", headers=headers)
        core.broken = None
        assert (await owner.delete("/mcp/interactive", headers=headers)).status_code == 200
        assert (await owner.post("/mcp/interactive", json=begin, headers=again)).status_code == 200


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
    visit = Visit(Caller("key_1", "", frozenset(), "org_1"), WHOLE)
    ctx = SimpleNamespace(request=SimpleNamespace(scope={VISIT: visit}))
    for keys in ((), (b"1" * 32,)):
        policy = build_server(CoreClient, state_keys=keys)._lowlevel_server.middleware
        (boundary,) = (one for one in policy if isinstance(one, RequestStateBoundary))
        assert boundary._security.bind_principal(ctx) == "org_1/key_1"  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(("keys", "goes_on"), [((b"1" * 32, b"1" * 32), True), ((b"1" * 32, b"2" * 32), False)])
async def test_a_call_that_asks_goes_on_at_any_replica_that_has_the_same_keys(
    core: StandIn, keys: tuple[bytes, bytes], goes_on: bool
) -> None:
    core.needs_approval = True
    commit = {"lead_id": "lead_1", "mode": "commit", "idempotency_key": "k"}
    asked = []

    async def agrees(_context: object, question: ElicitRequestParams) -> ElicitResult:
        asked.append(question.message)
        return ElicitResult(action="accept", content={"confirm": True})

    async with web(core, state_keys=(keys[0],)) as one, web(core, state_keys=(keys[1],)) as other:
        turns = itertools.cycle((one, other))

        async def balanced(scope: Scope, receive: Receive, send: Send) -> None:
            await next(turns)(scope, receive, send)

        async with (
            browser(balanced, core.api_key) as http,
            Client(
                streamable_http_client("http://127.0.0.1:8000/mcp", http_client=http), elicitation_callback=agrees
            ) as client,
        ):
            if goes_on:
                refused = await client.call_tool("qualify-lead", commit)
                assert refused.structured_content["error"]["reason"] == "APPROVAL_REQUIRED"
            else:
                with pytest.raises(MCPError, match="requestState"):
                    await client.call_tool("qualify-lead", commit)
    assert len(asked) == 1
