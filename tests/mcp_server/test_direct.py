"""What goes straight from the admission to a tool, and what the server leaves of the library's work for every call."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace

from dripstone.v1.client import Client
from mcp_server.admission import Admission, admitted
from mcp_server.callers import VISIT, Caller, Callers, Visit
from mcp_server.server import build_server, served_tools
from mcp_server.tool import registered
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


@pytest.mark.parametrize(
    ("provider", "traced"), [(trace.ProxyTracerProvider(), False), (trace.NoOpTracerProvider(), True)]
)
def test_calls_are_traced_only_where_somebody_has_said_where_traces_go(
    monkeypatch: pytest.MonkeyPatch, provider: trace.TracerProvider, traced: bool
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    names = [type(one).__name__ for one in build_server(nobody).middleware]
    assert names == ["OpenTelemetryMiddleware"] * traced + ["RequestStateBoundary", "Admission"]
