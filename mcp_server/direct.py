"""Calls that ask their person nothing, as nearly all do, go from the admission straight to the tool.

The protocol's library would read their arguments once more, build a context for them, and check each answer against
the schema that it was made by. A call that may ask, or goes on after a question, takes that way all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, compose_tool_call_handler
from mcp.types import SERVER_INFO_META_KEY, CallToolRequestParams, CallToolResult, TextContent
from mcp.types.methods import validate_client_request
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from mcp_server.admission import admitted
from mcp_server.callers import Callers
from mcp_server.calls import CALL
from mcp_server.confirmation import shows_forms
from mcp_server.extensions.executions import STARTS
from mcp_server.tool import Tool, carried_out

_Context = ServerRequestContext[Any, Any]
_PLAIN = frozenset({"name", "arguments", "_meta"})
"""What a call says that is no further round of one."""


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
        may_ask = arguments is None or params.name not in tools or _may_ask(ctx, arguments)
        return await (in_general if may_ask else directly)(ctx, params)

    low.add_request_handler(CALL, CallToolRequestParams, call)
    server.middleware.append(Straight(callers, tools, low.server_info_stamp))


class Straight:
    """The middleware behind the admission: answers plain calls of the revision without sessions by itself.

    What the library does with every answer, validating, dumping and stamping it, comes to the same for ours.
    """

    def __init__(self, callers: Callers, tools: Mapping[str, Tool], stamp: Mapping[str, Any]) -> None:
        self._callers = callers
        self._tools = tools
        self._stamp = stamp

    async def __call__(self, ctx: _Context, call_next: CallNext) -> HandlerResult:
        """Answer a call, or leave it to the library."""
        arguments = admitted(ctx) if ctx.method == CALL else None
        if arguments is None or not _is_plain(ctx) or _may_ask(ctx, arguments):
            return await call_next(ctx)
        params = ctx.params or {}
        validate_client_request(CALL, ctx.protocol_version, params)
        return wire(await carried_out(self._tools[params["name"]], self._callers, ctx, arguments), self._stamp)


def wire(result: CallToolResult, stamp: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer as the library puts it on the wire, stamped with who serves."""
    told = {
        "content": [
            {"text": one.text, "type": one.type}
            if isinstance(one, TextContent)
            else one.model_dump(by_alias=True, mode="json", exclude_none=True)
            for one in result.content
        ],
        "isError": result.is_error,
        "resultType": result.result_type,
        "structuredContent": result.structured_content,
    }
    meta = {**(result.meta or {}), SERVER_INFO_META_KEY: {**stamp}}
    return {**told, "_meta": meta} if result.meta is None else {"_meta": meta, **told}


def _is_plain(ctx: _Context) -> bool:
    """Tell whether a call needs nothing of the library: no session, no state of a round before, no task."""
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS or ctx.meta is None or ctx.params is None:
        return False
    return ctx.params.keys() <= _PLAIN and ctx.params["name"] != STARTS


def _may_ask(ctx: _Context, arguments: Mapping[str, Any]) -> bool:
    """Tell whether a call may come to ask its person something, or brings an answer."""
    params = ctx.params or {}
    if params.get("requestState") is not None or params.get("inputResponses") is not None:
        return True
    return arguments.get("mode") == "commit" and shows_forms(ctx.session.client_capabilities)
