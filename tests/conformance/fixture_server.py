"""The fixture profile: what the suite calls by name, behind the transport, admission and keys of the product."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

from mcp.server import CacheHint, MCPServer
from mcp.server.mcpserver import UserMessage
from mcp.server.mcpserver.tools import Tool as RegisteredTool
from mcp.types import (
    Completion,
    EmptyResult,
    ImageContent,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    ToolAnnotations,
    UnsubscribeRequestParams,
)

from mcp_server import request_states
from mcp_server.admission import Admission
from mcp_server.app import Endpoint
from mcp_server.callers import Callers
from mcp_server.extensions.executions import ExecutionWork
from mcp_server.extensions.skills import Skills
from mcp_server.extensions.tasks import Tasks
from mcp_server.server import NAME, served_tools, version
from mcp_server.skill_pack import pack
from mcp_server.tool import Tool, registered
from tests.conformance import contents, rounds, work

_HINT = CacheHint(ttl_ms=60_000, scope="private")
_LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read")


class FixtureEndpoint(Endpoint):
    """The product's endpoint with the fixtures' server object behind it."""

    def _new_server(self) -> MCPServer[Any]:
        return fixture_server(self._callers, self._deployment.state_keys)


def fixture_server(callers: Callers, state_keys: Sequence[bytes] = ()) -> MCPServer[Any]:
    """Return the product's tools, extensions and admission, with the fixtures beside them."""
    tools = {tool.name: tool for tool in served_tools()}
    made = {name: registered(tool, callers) for name, tool in tools.items()}
    for function in (*contents.TOOLS, *rounds.TOOLS, *work.TOOLS):
        tools[function.__name__], made[function.__name__] = _fixture(function)
    server: MCPServer[Any] = MCPServer(
        NAME,
        version=version(),
        tools=list(made.values()),
        extensions=[Tasks(work.FixtureWork(ExecutionWork(callers, tools))), Skills(pack().values())],
        middleware=[Admission(callers, tools, made)],
        cache_hints=dict.fromkeys(_LISTS, _HINT),
        request_state_security=request_states.security(state_keys),
        log_level="WARNING",
    )
    _add_resources(server)
    _add_prompts(server)
    _add_handlers(server)
    return server


def _fixture(function: Callable[..., Any]) -> tuple[Tool, RegisteredTool]:
    name, hints = function.__name__, ToolAnnotations(read_only_hint=True)
    made = RegisteredTool.from_function(function, annotations=hints)
    if function is contents.json_schema_2020_12_tool:
        made = made.model_copy(update={"parameters": contents.JSON_SCHEMA})
    return Tool(name, name, "read", function, (), hints), made


def _add_resources(server: MCPServer[Any]) -> None:
    @server.resource("test://static-text", description="Text that never changes.", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", description="The smallest picture.", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(contents.PIXEL)

    @server.resource("test://watched-resource", description="What is watched.", mime_type="text/plain")
    def watched() -> str:
        return "Nothing has happened yet."

    @server.resource("test://template/{id}/data", description="Data by id.", mime_type="application/json")
    def data(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _add_prompts(server: MCPServer[Any]) -> None:
    image = ImageContent(type="image", data=contents.PIXEL, mime_type="image/png")

    @server.prompt()
    def test_simple_prompt() -> list[UserMessage]:
        """Say one thing."""
        return [UserMessage("This is a simple prompt for testing.")]

    @server.prompt()
    def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
        """Say two arguments."""
        return [UserMessage(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]

    @server.prompt()
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
        """Show a resource."""
        shown = contents.embedded(resourceUri, "Embedded resource content for testing.")
        return [UserMessage(shown), UserMessage("Please process the embedded resource above.")]

    @server.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """Show a picture."""
        return [UserMessage(image), UserMessage(TextContent(type="text", text="Please analyze the image above."))]

    server.prompt()(rounds.test_input_required_result_prompt)


def _add_handlers(server: MCPServer[Any]) -> None:
    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Completion:
        values = [word for word in ("paris", "park", "party") if word.startswith(argument.value)]
        return Completion(values=values, total=len(values), has_more=False)

    async def done(ctx: Any, params: Any) -> EmptyResult:
        return EmptyResult()

    low = server._lowlevel_server
    low.add_request_handler("logging/setLevel", SetLevelRequestParams, done)
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, done)
    low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, done)
