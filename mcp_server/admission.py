"""What every tool call passes first: a known tool, a scope that allows it, arguments that exist and fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.tools import Tool as RegisteredTool
from mcp.types import INTERNAL_ERROR, ListToolsResult
from pydantic import ValidationError

from dripstone.v1.client import ApiError
from mcp_server.callers import Caller, Callers, presented_key
from mcp_server.refusals import Refusal, invalid_arguments, unknown_arguments, unknown_tool
from mcp_server.tool import Tool


class Admission:
    """The middleware in front of the tools."""

    def __init__(self, callers: Callers, tools: Mapping[str, Tool], registered: Mapping[str, RegisteredTool]) -> None:
        self._callers = callers
        self._tools = tools
        self._registered = registered

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Show a caller the tools its key allows, and refuse calls that cannot work before they start."""
        if ctx.method == "tools/list":
            return self._allowed(await self._caller(ctx), await call_next(ctx))
        if ctx.method != "tools/call":
            return await call_next(ctx)
        params = ctx.params or {}
        name, arguments = params.get("name"), params.get("arguments") or {}
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return await call_next(ctx)  # malformed for the protocol, which says so itself
        try:
            caller = await self._callers.caller(presented_key(ctx.request))
        except grpc.aio.AioRpcError as error:
            return _unknown_caller(ApiError.of(error)).result()
        refusal = self._refusal(caller, name, arguments)
        return refusal.result() if refusal else await call_next(ctx)

    def _refusal(self, caller: Caller, name: str, arguments: dict[str, Any]) -> Refusal | None:
        tool = self._tools.get(name)
        if tool is None:
            return unknown_tool(name, [known.name for known in self._tools.values() if _may(caller, known)])
        if missing := sorted(set(tool.scopes) - caller.scopes):
            return Refusal(
                reason="SCOPE_MISSING",
                message=f"{name} needs the scope {', '.join(missing)}, which this API key lacks.",
                hint="Only an admin of the organization can grant it.",
                next=f"Stop and tell the person: ask for an API key with {', '.join(missing)}.",
            )
        registered = self._registered[name]
        properties = registered.parameters["properties"]
        if refusal := unknown_arguments(name, arguments, properties, registered.parameters.get("required", ())):
            return refusal
        try:
            registered.fn_metadata.validate_arguments(arguments)
        except ValidationError as error:
            nested = {
                field
                for schema in registered.parameters.get("$defs", {}).values()
                for field in schema.get("properties", {})
            }
            return invalid_arguments(name, error, arguments, nested)
        return None

    async def _caller(self, ctx: ServerRequestContext[Any, Any]) -> Caller:
        try:
            return await self._callers.caller(presented_key(ctx.request))
        except grpc.aio.AioRpcError as error:
            refusal = _unknown_caller(ApiError.of(error))
            raise MCPError(code=INTERNAL_ERROR, message=f"{refusal.message} {refusal.hint}".strip()) from None

    def _allowed(self, caller: Caller, result: HandlerResult) -> HandlerResult:
        if isinstance(result, ListToolsResult):
            shown = [tool for tool in result.tools if _may(caller, self._tools[tool.name])]
            return result.model_copy(update={"tools": shown})
        if isinstance(result, dict):
            return result | {"tools": [tool for tool in result["tools"] if _may(caller, self._tools[tool["name"]])]}
        return result


def _may(caller: Caller, tool: Tool) -> bool:
    return caller.scopes.issuperset(tool.scopes)


def _unknown_caller(error: ApiError) -> Refusal:
    if error.code == "UNAUTHENTICATED":
        return Refusal(
            reason="UNAUTHENTICATED",
            message="The API key of this connection is not valid.",
            hint="A key starts with dripstone_live_; set DRIPSTONE_API_KEY or the Authorization header.",
            next="Stop and tell the person: the connection needs a valid API key.",
        )
    if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        return Refusal(
            reason=error.code,
            message="The Dripstone core does not answer.",
            hint="Start it with `dripstone serve`, or wait until it is back.",
            next="The same call again after the wait; tell the person if it persists.",
            retry_after=5.0,
        )
    return Refusal(reason=error.reason, message=error.message, hint=error.hint, next="Tell the person.")
