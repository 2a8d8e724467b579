"""What an operator asks of the process, and the headers that every answer carries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from core.gateway.app import build_app
from tests.gateway.serving import Gateway

pytestmark = pytest.mark.anyio

opened: list[str] = []


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello", headers={"content-security-policy": "default-src 'self'", "server": "x"})


async def broken(_: Request) -> Response:
    raise RuntimeError("secret text of a programming error")


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    opened.append("opened")
    yield
    opened.append("closed")


@pytest.fixture
def mounts() -> list[BaseRoute]:
    inner = Starlette(routes=[Route("/hello", hello), Route("/broken", broken)], lifespan=_lifespan)
    return [Mount("/mounted", app=inner)]


async def test_a_process_that_is_up_says_so_without_a_key(gateway: Gateway) -> None:
    answer = await gateway.http.get("/healthz", headers={"authorization": ""})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_a_process_is_ready_only_while_its_parts_are(gateway: Gateway) -> None:
    assert (await gateway.http.get("/readyz")).status_code == 200
    gateway.ready[0] = False
    answer = await gateway.http.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False})


async def test_metrics_count_calls_by_method_and_code_even_those_refused_at_the_door(gateway: Gateway) -> None:
    await gateway.http.get("/api/v1/caller")
    await gateway.http.post("/v2/affiliate_event", content=b"[]")
    text = (await gateway.http.get("/metrics")).text
    assert 'dripstone_rpc_seconds_count{code="0",method="OrganizationService.GetCaller"}' in text
    assert 'dripstone_rpc_seconds_count{code="3",method="EventService.CaptureAffiliateEvent"}' in text


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/caller", "/api/v1/nothing", "/v2/event"])
async def test_every_answer_is_safe_to_meet_in_a_browser(gateway: Gateway, path: str) -> None:
    headers = (await gateway.http.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "server" not in headers
    assert "strict-transport-security" not in headers


async def test_transport_security_is_demanded_only_where_there_is_some(gateway: Gateway) -> None:
    answer = await gateway.http.get("https://core/healthz")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_a_mounted_page_keeps_its_own_policy_and_loses_its_server_name(gateway: Gateway) -> None:
    answer = await gateway.http.get("/mounted/hello")
    assert (answer.text, answer.headers["content-security-policy"]) == ("hello", "default-src 'self'")
    assert "server" not in answer.headers


async def test_the_lifespan_of_what_is_mounted_runs_with_the_application(
    gateway: Gateway, mounts: list[BaseRoute]
) -> None:
    async def ready() -> bool:
        return True

    @asynccontextmanager
    async def beside() -> AsyncIterator[None]:
        opened.append("beside opened")
        yield
        opened.append("beside closed")

    opened.clear()
    app = build_app(gateway.pipeline, [], ready=ready, mounts=mounts, lifespans=[beside])
    async with app.router.lifespan_context(app):
        assert opened == ["opened", "beside opened"]
    assert opened == ["opened", "beside opened", "beside closed", "closed"]
