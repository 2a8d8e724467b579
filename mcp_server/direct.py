"""Calls that ask their person nothing, as nearly all do, go from the admission straight to the tool.

The protocol's library would read their arguments once more, build a context for them, and check each answer against
the schema that it was made by. A call that may ask, or goes on after a question, takes that way all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcp.server import MCPServer
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, compose_tool_call_handler
from mcp.types import CallToolRequestParams

from mcp_server.admission import admitted
from mcp_server.callers import Callers
from mcp_server.calls import CALL
from mcp_server.confirmation import shows_forms
from mcp_server.tool import Tool, carried_out

_Context = ServerRequestContext[Any, Any]


def register(
    server: MCPServer[Any], callers: Callers, tools: Mapping[str, Tool], extensions: Sequence[Extension]
) -> None:
    """Serve calls of these tools, past the `extensions` that stand before every call."""
    low = server._lowlevel_server  # as in `protocol`
    found = low.get_request_handler(CALL)
    assert found is not None
    in_general = found.handler

    async def carry_out(ctx: _Context, params: CallToolRequestParams) -> HandlerResult:
        arguments = admitted(ctx)
        assert arguments is not None
        return await carried_out(tools[params.name], callers, ctx, arguments)

    directly = compose_tool_call_handler(extensions, carry_out)

    async def call(ctx: _Context, params: CallToolRequestParams) -> HandlerResult:
        arguments = admitted(ctx)
        may_ask = arguments is None or params.name not in tools or _may_ask(ctx, params, arguments)
        return await (in_general if may_ask else directly)(ctx, params)

    low.add_request_handler(CALL, CallToolRequestParams, call)


def _may_ask(ctx: _Context, params: CallToolRequestParams, arguments: Mapping[str, Any]) -> bool:
    """Tell whether a call may come to ask its person something, or brings an answer."""
    if params.request_state is not None or params.input_responses is not None:
        return True
    return arguments.get("mode") == "commit" and shows_forms(ctx.session.client_capabilities)
