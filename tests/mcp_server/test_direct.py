"""What goes straight from the admission to a tool, and what the server leaves of the library's work for every call."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from mcp.server.runner import ServerRunner
from mcp.types import CallToolResult, ClientCapabilities, ElicitationCapability, FormElicitationCapability
from opentelemetry import trace
from pydantic import ValidationError

from dripstone.v1.client import Client
from mcp_server import direct
from mcp_server.admission import Admission, admitted
from mcp_server.callers import VISIT, Caller, Callers, Visit
from mcp_server.calls import CALL
from mcp_server.confirmation import NOT_CONFIRMED
from mcp_server.direct import Straight, wire
from mcp_server.refusals import Problem, Refusal
from mcp_server.server import build_server, served_tools
from mcp_server.tool import registered, result_of
from mcp_server.tools.records import RecordAnswer
from mcp_server.views import WHOLE


def nobody(_key: str | None) -> Client:
    return Client("127.0.0.1:1", None)


@pytest.mark.anyio
async def test_only_the_call_that_was_let_through_has_arguments_and_they_are_whole() -> None:
    callers, tools = Callers(nobody), {tool.name: tool for tool in served_tools()}
    made = {"get-record": registered(tools["get-record"], callers)}
    visit = Visit(Caller("key_1", "", frozenset({"records:read"}), "org_1"), WHOLE, "dripstone_live_1")

    def call(**arguments: Any) -> Any:
        params = {"name": "get-record", "arguments": arguments}
        return SimpleNamespace(method="tools/call", params=params, request=SimpleNamespace(scope={VISIT: visit}))

    async def seen(ctx: Any) -> Any:
        return {"own": admitted(ctx), "another's": admitted(call(record_id="cnt_1"))}

    admission = Admission(callers, tools, made)
    told = await admission(call(record_id="cnt_1"), seen)
    assert told == {"own": {"record_id": "cnt_1", "history": 0}, "another's": None}
    wrong = call(record_id="cnt_1", history=99)
    assert (await admission(wrong, seen)).is_error  # type: ignore[union-attr]
    assert admitted(wrong) is None


REVISION = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": REVISION, "io.modelcontextprotocol/clientCapabilities": {}}
FOUND = RecordAnswer(record_id="cnt_1", type="contact", fields={"name": None, "tags": [None, 1.5]}, changes=[])
REFUSED = Refusal("INVALID_ARGUMENT", "No.", retry_after=1.5, problems=(Problem("a", "REQUIRED", "is required."),) * 2)


@pytest.mark.parametrize("result", [result_of(FOUND), REFUSED.result(), NOT_CONFIRMED.result()])
def test_an_answer_goes_out_byte_for_byte_as_by_the_library(result: CallToolResult) -> None:
    low = build_server(nobody)._lowlevel_server
    theirs = ServerRunner(low, None, None)._serialize(CALL, REVISION, result)  # type: ignore[arg-type]
    assert json.dumps(wire(result, low.server_info_stamp)) == json.dumps(theirs)


LEFT: dict[str, dict[str, Any]] = {
    "of a session": {"protocol_version": "2025-11-25"},
    "with a malformed envelope": {"meta": None},
    "of a further round": {"params": {"inputResponses": {}}},
    "that says what is not known here": {"params": {"ttl": 5}},
    "that may become a task": {"params": {"name": "execute-workflow"}},
    "that may ask": {"mode": "commit", "forms": True},
    "that was not admitted": {"mode": None},
}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["plain", "incomplete", *LEFT])
async def test_only_a_plain_call_passes_the_library_by(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    said = LEFT.get(kind, {})
    mode = said.get("mode", "preview")
    forms = ClientCapabilities(elicitation=ElicitationCapability(form=FormElicitationCapability()))
    ctx: Any = SimpleNamespace(
        method=CALL,
        protocol_version=said.get("protocol_version", REVISION),
        meta=said.get("meta", META),
        params={"name": "get-record", "_meta": {} if kind == "incomplete" else META, **said.get("params", {})},
        session=SimpleNamespace(client_capabilities=forms if said.get("forms") else ClientCapabilities()),
    )

    async def answer(*_: Any) -> CallToolResult:
        return result_of(FOUND)

    async def library(_: Any) -> Any:
        return "the library's"

    monkeypatch.setattr(direct, "admitted", lambda _: None if mode is None else {"mode": mode})
    monkeypatch.setattr(direct, "carried_out", answer)
    straight = Straight(Callers(nobody), {tool.name: tool for tool in served_tools()}, {"name": "ours"})
    if kind == "incomplete":  # which the library refuses in the same words
        with pytest.raises(ValidationError):
            await straight(ctx, library)
        return
    assert await straight(ctx, library) == (
        wire(result_of(FOUND), {"name": "ours"}) if kind == "plain" else "the library's"
    )


@pytest.mark.parametrize(
    ("provider", "traced"), [(trace.ProxyTracerProvider(), False), (trace.NoOpTracerProvider(), True)]
)
def test_calls_are_traced_only_where_somebody_has_said_where_traces_go(
    monkeypatch: pytest.MonkeyPatch, provider: trace.TracerProvider, traced: bool
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    names = [type(one).__name__ for one in build_server(nobody).middleware]
    assert names == ["OpenTelemetryMiddleware"] * traced + ["RequestStateBoundary", "Admission", "Straight"]
