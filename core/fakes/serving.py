"""What every stand-in has around it: limits, faults, a page to look at what is stored, a way to ask for faults."""

from __future__ import annotations

import html
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from core.clock import Clock
from core.fakes.faults import BadFault, Faults

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Stored = Callable[[], Mapping[str, Sequence[Mapping[str, Any]]]]
_SHOWN = 200
_LARGEST_REQUEST = 16 << 20


@dataclass(slots=True)
class Window:
    """At most so many calls in a span of time."""

    most: int
    span: timedelta
    begun: datetime | None = None
    used: int = 0

    def take(self, now: datetime) -> bool:
        """Count a call; tell whether it is within the limit."""
        if self.begun is None or now - self.begun >= self.span:
            self.begun, self.used = now, 0
        self.used += 1
        return self.used <= self.most

    @property
    def left(self) -> int:
        """Return how many calls are left in the span under way."""
        return max(self.most - self.used, 0)

    def seconds_left(self, now: datetime) -> int:
        """Return when the next span begins, in whole seconds."""
        begun = self.begun or now
        return max(-int(-(begun + self.span - now).total_seconds() // 1), 1)


@dataclass(slots=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    status: int
    """0 where it was left without an answer."""


@dataclass(slots=True)
class Watch:
    """What came, and what is to go wrong."""

    clock: Clock
    faults: Faults = field(default_factory=Faults)
    seen: list[Seen] = field(default_factory=list)


def application(watch: Watch, routes: Sequence[web.RouteDef], stored: Stored) -> web.Application:
    """Return an application with these routes, and those by which people look at it."""

    @web.middleware
    async def with_faults(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/" or request.path.startswith("/fake/"):
            return await handler(request)
        kind = watch.faults.take(request.path, "timeout", "502", "timeout-after-commit", "502-after-commit")
        answer: web.StreamResponse | None = None
        if kind in ("", "timeout-after-commit", "502-after-commit"):
            answer = await handler(request)
        if kind.startswith("502"):
            answer = web.json_response({"message": "bad gateway"}, status=502)
        if kind.startswith("timeout"):
            watch.seen.append(Seen(request.method, request.path, 0))
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        assert answer is not None
        watch.seen.append(Seen(request.method, request.path, answer.status))
        return answer

    made = web.Application(middlewares=[with_faults], client_max_size=_LARGEST_REQUEST)
    made.add_routes([*routes, *_to_look(watch, stored)])
    return made


@asynccontextmanager
async def serving(made: web.Application, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve an application and yield its address."""
    runner = web.AppRunner(made, shutdown_timeout=0, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _to_look(watch: Watch, stored: Stored) -> list[web.RouteDef]:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text=_page(stored(), watch), content_type="text/html")

    async def records(_: web.Request) -> web.Response:
        return web.json_response(stored())

    async def requests(_: web.Request) -> web.Response:
        return web.json_response([{"method": one.method, "path": one.path, "status": one.status} for one in watch.seen])

    async def coming(_: web.Request) -> web.Response:
        return web.json_response([f"{one.kind}@{one.path}*{one.times}" for one in watch.faults.coming])

    async def ask(request: web.Request) -> web.Response:
        try:
            watch.faults.add(*(await request.json())["faults"])
        except (BadFault, KeyError, TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return await coming(request)

    return [
        web.get("/", page),
        web.get("/fake/records", records),
        web.get("/fake/requests", requests),
        web.get("/fake/faults", coming),
        web.post("/fake/faults", ask),
    ]


def _page(stored: Mapping[str, Sequence[Mapping[str, Any]]], watch: Watch) -> str:
    tables = "".join(_table(name, rows) for name, rows in stored.items())
    seen = "".join(
        f"<li>{html.escape(f'{one.method} {one.path}')}: {one.status or 'no answer'}</li>"
        for one in reversed(watch.seen[-_SHOWN:])
    )
    return (
        "<!doctype html><meta charset=utf-8><title>Stand-in</title><style>body{font:14px system-ui;margin:2rem}"
        "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2rem .5rem;text-align:left}</style>"
        f"<h1>What is stored here</h1>{tables}<h2>Requests, newest first</h2><ol>{seen}</ol>"
    )


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    columns = sorted({column for row in rows for column in row}, key=lambda column: (column.lower() != "id", column))
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    cells = "".join(
        f"<tr>{''.join(f'<td>{html.escape(_shown(row.get(column)))}</td>' for column in columns)}</tr>"
        for row in rows[:_SHOWN]
    )
    return f"<h2>{html.escape(name)} ({len(rows)})</h2><table><tr>{head}</tr>{cells}</table>"


def _shown(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
