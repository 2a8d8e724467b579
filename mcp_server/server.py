"""The MCP server object: tools by toolset behind one admission, for every transport and both protocol eras."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from typing import Any

from mcp.server import CacheHint, MCPServer
from mcp.server.extension import Extension
from mcp.server.mcpserver.tools import Tool as RegisteredTool
from mcp.shared.inbound import x_mcp_header_map
from opentelemetry import trace

from mcp_server import direct, protocol, request_states
from mcp_server.admission import Admission
from mcp_server.callers import Callers, Connect
from mcp_server.extensions.apps import APPROVAL_CARD, approval_card
from mcp_server.extensions.executions import STARTS, ExecutionWork
from mcp_server.extensions.skills import Skills
from mcp_server.extensions.tasks import Tasks
from mcp_server.instructions import instructions
from mcp_server.skill_pack import pack
from mcp_server.tool import Tool, described, registered
from mcp_server.tools import TOOLSETS

NAME = "dripstone"
"""The same on every replica: what one has sealed, another opens only under the same name."""

_TRACES = "OpenTelemetryMiddleware"
"""Of the library, first of all middleware; its own documentation says to drop it where it is not wanted."""


def build_server(
    connect: Connect,
    *,
    toolsets: Collection[str] | None = None,
    read_only: bool = False,
    callers: Callers | None = None,
    state_keys: Sequence[bytes] = (),
) -> MCPServer[Any]:
    """Return the server; it holds no power of its own: each call goes out under the key that it came with.

    `connect` returns the client for a key, None standing for the key of the process. `toolsets` and `read_only`
    restrict the tools, whatever a caller asks for. `state_keys` seal what clients carry from one round of a call to
    the next, at least 32 bytes each and the same on every replica, the first for new ones; without any, only this
    process continues a call. Raises ValueError for a toolset that does not exist.
    """
    tools = {tool.name: tool for tool in served_tools(toolsets, read_only=read_only)}
    callers = callers or Callers(connect, read_only=read_only)
    made = {name: registered(tool, callers) for name, tool in tools.items()}
    extensions = _extensions(callers, tools)
    server: MCPServer[Any] = MCPServer(
        NAME,
        title="Dripstone",
        description="Qualify leads, enroll contacts, update records and execute workflows.",
        instructions=instructions(tools.values()),
        version=version(),
        tools=list(made.values()),
        extensions=extensions,
        middleware=[Admission(callers, tools, made)],
        # A tool list depends on the key's scopes, which are believed for as long.
        cache_hints={**protocol.CACHE_HINTS, "tools/list": CacheHint(ttl_ms=30_000, scope="private")},
        subscriptions=False,  # `protocol` serves them, from the core
        request_state_security=request_states.security(state_keys),
        log_level="WARNING",
    )
    direct.register(server, callers, tools, extensions)
    _register(server, callers, tools)
    _unburden(server, made)
    return server


def served_tools(toolsets: Collection[str] | None = None, *, read_only: bool = False) -> list[Tool]:
    """Return the tools of a server with these restrictions, in the order of every listing.

    Raises ValueError for a toolset that does not exist.
    """
    if unknown := set(toolsets or ()) - {toolset.name for toolset in TOOLSETS}:
        names = ", ".join(toolset.name for toolset in TOOLSETS)
        raise ValueError(f"no such toolset: {', '.join(sorted(unknown))}; there are {names}")
    chosen = [toolset for toolset in TOOLSETS if not toolsets or toolset.name in toolsets]
    return [tool for one in chosen for tool in one.tools if not read_only or tool.annotations.read_only_hint]


def _extensions(callers: Callers, tools: dict[str, Tool]) -> list[Extension]:
    """Return the extensions of the protocol that are served, each where the tools are that it goes with."""
    served: list[Extension] = []
    if STARTS in tools:
        served.append(Tasks(ExecutionWork(callers, tools)))
    if any(tool.card == APPROVAL_CARD for tool in tools.values()):
        served.append(approval_card())
    if skills := pack():
        served.append(Skills(skills.values()))
    return served


def _register(server: MCPServer[Any], callers: Callers, tools: dict[str, Tool]) -> None:
    """Add what is served beside tools: a line each."""
    protocol.register(server, callers, tools)


def _unburden(server: MCPServer[Any], made: Mapping[str, RegisteredTool]) -> None:
    """Take away what the library does for every call though it can find nothing here."""
    # A tool whose schema sends no argument along in a header has no such header to be checked.
    mirrored = {name: tool.parameters for name, tool in made.items() if x_mcp_header_map(tool.parameters)}
    server._lowlevel_server.get_tool_input_schema = mirrored.get
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # nobody has said where traces go
        server.middleware[:] = [one for one in server.middleware if type(one).__name__ != _TRACES]


def describe_tools() -> None:
    """Work the schemas of every tool out ahead of time, in whatever thread; the first server is then quick to build."""
    for toolset in TOOLSETS:
        for tool in toolset.tools:
            described(tool.name, tool.function)


def version() -> str:
    """Return the version of the product."""
    try:
        return metadata.version("dripstone")
    except metadata.PackageNotFoundError:  # run from a clone that was never installed
        return "0"
