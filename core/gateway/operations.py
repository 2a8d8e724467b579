"""Routes for whoever runs the process: is it up, should it get calls, what does it measure, what can it be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from core.rpc import metrics

_READY_WITHIN = 2.0


def operations(ready: Callable[[], Awaitable[bool]], document: Callable[[], bytes]) -> Sequence[BaseRoute]:
    """Return the routes; `ready` is asked by `/readyz`, `document` makes what `/openapi.json` shows."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        try:
            is_ready = await asyncio.wait_for(ready(), _READY_WITHIN)
        except TimeoutError:
            is_ready = False
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    async def measures(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def contract(_: Request) -> Response:
        return Response(document(), media_type="application/json")

    return (
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", measures),
        Route("/openapi.json", contract),
    )
