"""The story by agents of LangGraph with LangChain's MCP adapters, whose chat model plays it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_mcp_adapters.sessions import create_session
from langchain_mcp_adapters.tools import load_mcp_tools
from story import AGENT, APPROVER, SECONDS, Door, Story, spec, text_of, told


class Player(BaseChatModel):
    """A chat model that makes one principal's calls."""

    story: Any
    who: str

    @property
    def _llm_type(self) -> str:
        return "player"

    def bind_tools(self, tools: Any, **_: Any) -> Player:
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            assert last.status == "success", last.content
            self.story.answered(text_of(last.content))
        call = self.story.whose(self.who)
        made = [{"name": call.tool, "args": call.arguments, "id": f"call-{self.story.made}"}] if call else []
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="", tool_calls=made))])


def connection_of(door: Door) -> Any:
    if door.command:
        return {"transport": "stdio", "command": door.command[0], "args": door.command[1:], "env": door.env}
    timeout = timedelta(seconds=SECONDS)
    return {"transport": "streamable_http", "url": door.url, "headers": door.headers, "timeout": timeout}


async def play(story: Story, who: str, door: Door) -> str:
    async with create_session(connection_of(door)) as session:
        protocol = (await session.initialize()).protocolVersion
        agent = create_agent(Player(story=story, who=who), await load_mcp_tools(session))
        await agent.ainvoke({"messages": [("user", "Play your part.")]}, {"recursion_limit": 80})
        return str(protocol)


async def main() -> None:
    given, story = spec(), Story()
    protocols = [await play(story, who, given.doors[who]) for who in (AGENT, APPROVER, AGENT)]
    told(story, protocols[0])


if __name__ == "__main__":
    asyncio.run(main())
