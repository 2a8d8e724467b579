"""The story by agents of Pydantic AI, whose model is a function that plays it."""

from __future__ import annotations

import asyncio
from typing import Any

from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from story import AGENT, APPROVER, SECONDS, Door, Story, spec, text_of, told

seen: list[str] = []
"""Protocol revisions that were agreed on."""


def toolset_of(door: Door) -> MCPToolset[Any]:
    if door.command:
        transport: Any = StdioTransport(door.command[0], door.command[1:], env=door.env, keep_alive=False)
    else:
        transport = StreamableHttpTransport(door.url, headers=door.headers)
    return MCPToolset(transport, tool_error_behavior="error", read_timeout=SECONDS)


async def play(story: Story, who: str, door: Door) -> None:
    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        assert {"qualify-lead", "enroll"} <= {tool.name for tool in info.function_tools} or who == APPROVER
        for part in messages[-1].parts:
            if isinstance(part, ToolReturnPart):
                story.answered(text_of(part.content))
        call = story.whose(who)
        return ModelResponse(parts=[ToolCallPart(call.tool, call.arguments) if call else TextPart("Done.")])

    async def text_alone(_: Any, __: Any, tool: str, arguments: dict[str, Any]) -> str:
        """Hand over the text; by itself this framework prefers structured content."""
        return text_of((await toolset.client.call_tool(tool, arguments)).content)

    toolset = toolset_of(door)
    toolset.process_tool_call = text_alone
    agent = Agent(FunctionModel(model), toolsets=[toolset])
    async with agent:
        await agent.run("Play your part.")
        seen.append(str(getattr(toolset.client, "protocol_version", "")))


async def main() -> None:
    given, story = spec(), Story()
    for who in (AGENT, APPROVER, AGENT):
        await play(story, who, given.doors[who])
    told(story, seen[0])


if __name__ == "__main__":
    asyncio.run(main())
