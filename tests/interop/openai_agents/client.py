"""The story by agents of the OpenAI Agents SDK, whose model plays it; nothing is traced or sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage
from agents.mcp import MCPServerStdio, MCPServerStreamableHttp
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from story import AGENT, APPROVER, SECONDS, Door, Story, spec, text_of, told


class Player(Model):
    """A model that makes one principal's calls."""

    def __init__(self, story: Story, who: str) -> None:
        self._story = story
        self._who = who

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        last = input[-1] if isinstance(input, list) else {}
        if last.get("type") == "function_call_output":
            self._story.answered(_text(last["output"]))
        call = self._story.whose(self._who)
        said: Any
        if call is not None:
            said = ResponseFunctionToolCall(
                type="function_call",
                name=call.tool,
                arguments=json.dumps(call.arguments),
                call_id=f"call-{self._story.made}",
            )
        else:
            text = ResponseOutputText(type="output_text", text="Done.", annotations=[])
            said = ResponseOutputMessage(
                id="said", type="message", role="assistant", status="completed", content=[text]
            )
        return ModelResponse(output=[said], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def _text(output: Any) -> str:
    """Return the text in an output, which may be the JSON of a part."""
    text = text_of(output)
    return text_of(json.loads(text)) if text.startswith('{"type":') else text


def server_of(door: Door) -> MCPServerStdio | MCPServerStreamableHttp:
    more: Any = {"client_session_timeout_seconds": SECONDS}
    if door.command:
        return MCPServerStdio({"command": door.command[0], "args": door.command[1:], "env": door.env}, **more)
    return MCPServerStreamableHttp({"url": door.url, "headers": door.headers, "timeout": SECONDS}, **more)


async def play(story: Story, who: str, door: Door) -> str:
    async with server_of(door) as server:
        agent: Agent[Any] = Agent(name=who, model=Player(story, who), mcp_servers=[server])
        await Runner.run(agent, "Play your part.", max_turns=40, run_config=RunConfig(tracing_disabled=True))
        return str(getattr(server.session, "protocol_version", None) or "")


async def main() -> None:
    given, story = spec(), Story()
    protocols = [await play(story, who, given.doors[who]) for who in (AGENT, APPROVER, AGENT)]
    told(story, protocols[0])


if __name__ == "__main__":
    asyncio.run(main())
