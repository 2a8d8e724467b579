"""The story by the `Client` of the protocol's own SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from story import AGENT, APPROVER, SECONDS, Answer, Door, Story, played, spec, text_of, told


@asynccontextmanager
async def connected(door: Door, mode: Any) -> AsyncIterator[Client]:
    if door.command:
        parameters = StdioServerParameters(command=door.command[0], args=door.command[1:], env=door.env)
        async with Client(parameters, mode=mode) as client:
            yield client
        return
    async with (
        httpx2.AsyncClient(headers=door.headers, timeout=SECONDS) as http,
        Client(streamable_http_client(door.url, http_client=http), mode=mode) as client,
    ):
        yield client


async def play(client: Client, story: Story, who: str) -> None:
    async def call(tool: str, arguments: dict[str, Any]) -> Answer:
        result = await client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        return text_of(result.content)

    await played(story, who, call)


async def main() -> None:
    given, story = spec(), Story()
    async with (
        connected(given.doors[AGENT], given.mode) as agent,
        connected(given.doors[APPROVER], given.mode) as approver,
    ):
        for client, who in ((agent, AGENT), (approver, APPROVER), (agent, AGENT)):
            await play(client, story, who)
        told(story, agent.protocol_version)


if __name__ == "__main__":
    asyncio.run(main())
