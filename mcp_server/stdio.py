"""MCP over standard input and output: the process speaks for the one key it was started with."""

from __future__ import annotations

import sys

import anyio
from dripstone.v1.client import Client, NotConnected, from_environment

from mcp_server.server import build_server


async def run_stdio(client: Client) -> None:
    """Serve an open client's core until the input ends. Nothing but protocol is written to standard output."""
    await build_server(lambda _: client).run_stdio_async()


async def serve_stdio(target: str, api_key: str, *, tls: bool | bytes | None = None) -> None:
    """Connect to a core and serve it over standard input and output until the input ends."""
    async with Client(target, api_key, tls=tls) as client:
        await run_stdio(client)


async def serve_environment() -> None:
    """Serve the core that the environment or `connection.json` names. Raises NotConnected when neither does."""
    async with from_environment() as client:
        await run_stdio(client)


def main() -> None:
    """Serve the core that the environment names; without one, say so on standard error and exit with status 1."""
    try:
        anyio.run(serve_environment)
    except NotConnected as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
