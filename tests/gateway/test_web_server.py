"""The web server as its process sees it: what comes up late, and how soon it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from core.gateway.mcp_endpoint import McpEndpoint
from core.gateway.web_server import WebServer
from core.listening import listen

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def _serving(server: WebServer) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
    listener = listen("127.0.0.1", 0)
    serving = asyncio.create_task(server.serve([listener]))
    await server.listening.wait()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", serving
    server.leave()
    await serving


async def _until_refused(http: httpx2.AsyncClient, url: str) -> None:
    while True:
        await http.get(url)


async def test_who_is_being_answered_gets_the_answer_and_who_is_idle_holds_nobody_up(anyio_backend: str) -> None:
    arrived, over = asyncio.Event(), asyncio.Event()

    async def at_once(_: Request) -> Response:
        return PlainTextResponse("at once")

    async def later(_: Request) -> Response:
        arrived.set()
        await over.wait()
        return PlainTextResponse("later")

    app = Starlette(routes=[Route("/at-once", at_once), Route("/later", later)])
    server = WebServer(uvicorn.Config(app, log_config=None, lifespan="off"), McpEndpoint("127.0.0.1:1"))
    async with _serving(server) as (url, serving), httpx2.AsyncClient() as idle, httpx2.AsyncClient() as waiting:
        assert (await idle.get(f"{url}/at-once")).headers["date"]
        answer = asyncio.create_task(waiting.get(f"{url}/later"))
        await arrived.wait()
        server.leave()
        with pytest.raises(httpx2.TransportError):
            await _until_refused(idle, f"{url}/at-once")
        assert not serving.done()
        over.set()
        assert (await answer).text == "later"
        await serving


async def test_the_mcp_endpoint_comes_up_when_it_is_asked_and_ends_whether_it_was_or_not(anyio_backend: str) -> None:
    unasked = McpEndpoint("127.0.0.1:1")
    async with unasked.running():
        pass
    readable = iter([False])

    def keys() -> tuple[bytes, ...]:
        if not next(readable, True):
            raise OSError("no key can be read")
        return ()

    endpoint = McpEndpoint("127.0.0.1:1", state_keys=keys)
    app = Starlette(routes=[Route("/mcp", endpoint)])
    async with endpoint.running(), httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http:
        with pytest.raises(OSError, match="no key"):  # what could not be loaded once is tried anew
            await endpoint.up()
        answers = await asyncio.gather(*(http.post("http://127.0.0.1/mcp", json={}) for _ in range(2)))
        assert [answer.status_code for answer in answers] == [401, 401]
        assert await endpoint.up() is await endpoint.up()
    with pytest.raises(asyncio.CancelledError):
        await unasked.up()
