"""The story by the client of FastMCP."""

from __future__ import annotations

import asyncio
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from story import AGENT, APPROVER, SECONDS, Answer, Door, Story, played, spec, text_of, told


def client_of(door: Door, mode: Any) -> Client[Any]:
    if door.command:
        transport: Any = StdioTransport(door.command[0], door.command[1:], env=door.env, keep_alive=False)
    else:
        transport = StreamableHttpTransport(door.url, headers=door.headers)
    return Client(transport, mode=mode, timeout=SECONDS)


async def play(client: Client[Any], story: Story, who: str) -> None:
    async def call(tool: str, arguments: dict[str, Any]) -> Answer:
        result = await client.call_tool(tool, arguments)
        return text_of(result.content)

    await played(story, who, call)


async def main() -> None:
    given, story = spec(), Story()
    async with (
        client_of(given.doors[AGENT], given.mode) as agent,
        client_of(given.doors[APPROVER], given.mode) as approver,
    ):
        for client, who in ((agent, AGENT), (approver, APPROVER), (agent, AGENT)):
            await play(client, story, who)
        told(story, str(agent.protocol_version))


if __name__ == "__main__":
    asyncio.run(main())
