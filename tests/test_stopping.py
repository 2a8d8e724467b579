"""Stopping closes everything, whatever fails on the way; and so does a start that comes to nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import asyncpg
import pytest
from aiohttp import web
from sqlalchemy import make_url

from core import ids, provisioning
from core.bootstrap import AlreadyRunning, Core
from core.clock import ManualClock
from core.domain.effects import Emit
from core.settings import Settings
from core.store.webhooks import deliveries, endpoints
from core.store.webhooks.deliveries import Emission
from tests.receiver import Receiver

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        data_dir=tmp_path / "data",
        roles=frozenset({"grpc"}),
        grpc_listen="127.0.0.1:0",
        allowed_destinations=(ip_network("127.0.0.0/8"),),
        drain_seconds=0.05,
    )


async def _take_away(url: str, server: Callable[[], str]) -> None:
    """Let every statement about deliveries fail from now on; on PostgreSQL, every connection."""
    if url.startswith("sqlite"):
        with sqlite3.connect(str(make_url(url).database)) as connection:
            connection.execute("ALTER TABLE deliveries RENAME TO away")
        connection.close()
        return
    name = make_url(url).database
    operator = await asyncpg.connect(server())
    await operator.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await operator.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    await operator.close()


async def test_a_database_that_is_away_while_draining_keeps_nothing_open(
    settings: Settings, clock: ManualClock, receiver: Receiver, request: pytest.FixtureRequest
) -> None:
    arrived, over = asyncio.Event(), asyncio.Event()

    async def take_too_long(_request: web.Request) -> web.Response:
        arrived.set()
        await over.wait()
        return web.Response()

    receiver.answers["/"] = take_too_long
    core = await Core.open(settings, clock)
    await core.start()
    org = (await provisioning.create_organization(core.database, "Acme")).org_id
    async with core.database.write(org) as tx:
        await endpoints.create(
            tx, "ep_1", url=receiver.url, description="", event_types=[], retry_preset="standard",
            secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        )  # fmt: skip
        await deliveries.emit(tx, [Emission(org, Emit(ids.mint("msg", tx.now), "deal.won", {}))])
    assert await core.outward.dispatcher.turn() == 1
    await arrived.wait()

    await _take_away(settings.database_url, lambda: request.getfixturevalue("postgresql_server"))
    try:
        await core.stop()
    finally:
        over.set()
    assert all(lock.closed for lock in core.locks)
    assert core.parts.webhook_sender._exchanges is None


async def test_what_cannot_be_closed_keeps_nothing_else_open(settings: Settings, clock: ManualClock) -> None:
    core = await Core.open(settings, clock)
    await core.join()

    async def fail(_seconds: float) -> None:
        raise RuntimeError("it hangs")

    core.outward.dispatcher.stop = core.outward.mailer.stop = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="it hangs"):
        await core.stop()
    assert all(lock.closed for lock in core.locks)
    again = await Core.open(settings, clock)
    await again.stop()


async def test_a_core_that_cannot_start_keeps_nothing_open(settings: Settings, clock: ManualClock) -> None:
    wrong = await Core.open(replace(settings, smtp_url="nowhere"), clock)
    with pytest.raises(ValueError, match="write smtp://"):
        await wrong.start()
    core = await Core.open(settings, clock)
    with pytest.raises(AlreadyRunning):
        await Core.open(settings, clock)
    await core.stop()
