"""What every message passes first: tools by view and key, a scope that allows them, arguments that exist and fit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from typing import Any

import grpc
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.tools import Tool as RegisteredTool
from mcp.types import INTERNAL_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, CallToolResult
from pydantic import BaseModel, ValidationError

from dripstone.v1.client import ApiError
from mcp_server import reach
from mcp_server.callers import KEPT, Caller, Callers, visit_of
from mcp_server.calls import CALL
from mcp_server.extensions.tasks import TOOL_OF
from mcp_server.instructions import instructions
from mcp_server.mending import Called
from mcp_server.refusals import Refusal, wrong_arguments
from mcp_server.tool import Tool, still_wrong
from mcp_server.tools import TOOLSETS
from mcp_server.unknown_tools import unknown_tool
from mcp_server.views import ROOT, WHOLE, View

_INTRODUCES = ("initialize", "server/discover")

_admitted: ContextVar[tuple[Any, dict[str, Any]] | None] = ContextVar("admitted_call", default=None)
"""The last call that was let through, and its arguments as the tool takes them."""


class Admission:
    """The middleware in front of the tools."""

    def __init__(self, callers: Callers, tools: Mapping[str, Tool], registered: Mapping[str, RegisteredTool]) -> None:
        self._callers = callers
        self._tools = tools
        self._registered = registered
        self._hidden: dict[tuple[View, frozenset[str], frozenset[str]], Mapping[str, str]] = {}

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Show a caller the tools its key allows, and refuse calls that cannot work before they start."""
        if ctx.method == CALL:
            refused = await self._refused(ctx)
            return await call_next(ctx) if refused is None else refused
        if ctx.method == "tools/list":
            caller = await self._caller(ctx)
            shown = {tool.name for tool in self._shown(_view(ctx)) if _may(caller, tool)}
            listed = _as_dict(await call_next(ctx))
            return listed | {"tools": [tool for tool in listed["tools"] if tool["name"] in shown]}
        if ctx.method in _INTRODUCES:
            # Over stdio nobody has asked who calls yet, and a first word should not need the core.
            visit = visit_of(ctx.request)
            shown_to = [tool for tool in self._shown(_view(ctx)) if visit is None or _may(visit.caller, tool)]
            return _as_dict(await call_next(ctx)) | {"instructions": instructions(shown_to)}
        if ctx.method in TOOL_OF:
            await self._admit_as(TOOL_OF[ctx.method], ctx)
        return await call_next(ctx)

    async def _admit_as(self, names: Collection[str], ctx: ServerRequestContext[Any, Any]) -> None:
        """Let a request through where one of the tools is that do as much. Raises MCPError."""
        caller = await self._caller(ctx)
        tools = [tool for tool in self._shown(_view(ctx)) if tool.name in names]
        if not tools:
            told = " and ".join(names)
            raise MCPError(code=METHOD_NOT_FOUND, message=f"{ctx.method} is not served here, as {told} is not.")
        reach.enter(self._missing(_view(ctx), caller))
        refusals = [refusal for tool in tools if (refusal := not_allowed(caller, tool))]
        if len(refusals) == len(tools):
            raise MCPError(code=INVALID_REQUEST, message=f"{refusals[0].message} {refusals[0].next}")

    async def _refused(self, ctx: ServerRequestContext[Any, Any]) -> CallToolResult | None:
        params = ctx.params or {}
        name, arguments = params.get("name"), params.get("arguments") or {}
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None  # malformed for the protocol, which says so itself
        try:
            caller = await self._callers.who(ctx.request)
        except grpc.aio.AioRpcError as error:
            return _unknown_caller(ApiError.of(error)).result()
        refusal = await self._refusal(ctx, caller, name, arguments)
        return None if refusal is None else refusal.result()

    async def _refusal(
        self, ctx: ServerRequestContext[Any, Any], caller: Caller, name: str, arguments: dict[str, Any]
    ) -> Refusal | None:
        tool, view = self._tools.get(name), _view(ctx)
        reach.enter(self._missing(view, caller))
        if tool is None or not _shows(view, tool):
            known = {one.name: _reads(one) for one in self._shown(view) if _may(caller, one)}
            return unknown_tool(name, arguments, known, self._taking)
        if refusal := not_allowed(caller, tool):
            return refusal
        schema, validate = self._taking(name)
        if schema["properties"].keys() >= arguments.keys():
            try:
                _admitted.set((ctx, validate(arguments)))
            except ValidationError:
                pass
            else:
                return None
        refusal, mended = wrong_arguments(name, arguments, schema, validate)
        if "mode" not in schema["properties"] or not mended or "<" in refusal.next:
            return refusal
        # What only the core can tell is told at once: the corrected call is looked at as the preview that it is.
        try:
            fitting = validate(mended) | {"mode": "preview"}
        except ValidationError:  # a place is held open
            return refusal
        corrected = Called(name, mended, arguments, schema)
        more = await still_wrong(tool, self._callers.for_request(ctx.request), fitting, corrected)
        return refusal if more is None else refusal.joined(more)

    def _taking(self, name: str) -> tuple[Mapping[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
        """Return the schema of a tool, and what checks arguments against it."""
        registered = self._registered[name]
        return registered.parameters, registered.fn_metadata.validate_arguments

    def _missing(self, view: View, caller: Caller) -> Mapping[str, str]:
        """Return why each tool is not there that a caller does not have at an address."""
        about = (view, caller.scopes, caller.methods)
        hidden = self._hidden.get(about)
        if hidden is None:
            if len(self._hidden) >= KEPT:
                self._hidden.clear()
            every = [tool for toolset in TOOLSETS for tool in toolset.tools]
            hidden = self._hidden[about] = {tool.name: why for tool in every if (why := self._why(tool, view, caller))}
        return hidden

    def _why(self, tool: Tool, view: View, caller: Caller) -> str:
        """Return what keeps a tool from a caller at an address, as a clause about a call of it; empty for nothing."""
        if tool.name not in self._tools:
            only_reads = not _reads(tool) and all(map(_reads, self._tools.values()))
            kept = "changes something, and this server only reads"
            return kept if only_reads else f"needs the toolset {tool.toolset}, which this server does not have"
        if view.read_only and not _reads(tool):
            return "changes something, and this address only reads"
        if not _shows(view, tool):
            return f"needs the toolset {tool.toolset}, which this address leaves out ({ROOT} has each)"
        if missing := ", ".join(caller.lacks(tool.scopes)):
            return f"needs the scope {missing}, which this API key lacks"
        return "needs what limits of this API key leave out" if caller.kept_from(tool.methods) else ""

    def _shown(self, view: View) -> list[Tool]:
        return [tool for tool in self._tools.values() if _shows(view, tool)]

    async def _caller(self, ctx: ServerRequestContext[Any, Any]) -> Caller:
        try:
            return await self._callers.who(ctx.request)
        except grpc.aio.AioRpcError as error:
            refusal = _unknown_caller(ApiError.of(error))
            raise MCPError(code=INTERNAL_ERROR, message=f"{refusal.message} {refusal.hint}".strip()) from None


def admitted(ctx: ServerRequestContext[Any, Any]) -> dict[str, Any] | None:
    """Return the arguments of the call that was let through, as the tool takes them; None for any other."""
    call = _admitted.get()
    return call[1] if call is not None and call[0] is ctx else None


def not_allowed(caller: Caller, tool: Tool) -> Refusal | None:
    """Return why a caller may not use a tool; None when it may."""
    if missing := ", ".join(caller.lacks(tool.scopes)):
        return Refusal(
            reason="SCOPE_MISSING",
            message=f"{tool.name} needs the scope {missing}, which this API key lacks.",
            hint="Only an admin of the organization can grant it.",
            next=f"Stop and tell the person: ask for an API key with {missing}.",
        )
    if methods := ", ".join(caller.kept_from(tool.methods)):
        return Refusal(
            reason="KEY_LIMITED",
            message=f"{tool.name} calls {methods}, which limits of this API key leave out.",
            hint="Only an admin of the organization can widen the key's methods.",
            next=f"Stop and tell the person: ask for an API key that may call {methods}.",
        )
    return None


def is_open(ctx: ServerRequestContext[Any, Any], caller: Caller, tool: Tool | None) -> bool:
    """Tell whether a tool is served where a request came to, and its caller may use it."""
    return tool is not None and _shows(_view(ctx), tool) and _may(caller, tool)


def _may(caller: Caller, tool: Tool) -> bool:
    return not (caller.lacks(tool.scopes) or caller.kept_from(tool.methods))


def _shows(view: View, tool: Tool) -> bool:
    return view.shows(tool.toolset, reads=_reads(tool))


def _reads(tool: Tool) -> bool:
    return bool(tool.annotations.read_only_hint)


def _view(ctx: ServerRequestContext[Any, Any]) -> View:
    visit = visit_of(ctx.request)
    return WHOLE if visit is None else visit.view


def _as_dict(result: HandlerResult) -> dict[str, Any]:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return result or {}


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
