"""The real gateway over the real pipeline and a real database, with the handlers of `serving`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from google.protobuf.message import Message
from starlette.routing import BaseRoute

from core import provisioning
from core.clock import ManualClock
from core.gateway.app import build_app
from core.rpc.admission.authentication import Authenticator
from core.rpc.admission.limits import RateLimiter
from core.rpc.call import Parts
from core.rpc.pipeline import Pipeline
from core.store.database import Database
from tests.databases import Databases
from tests.gateway.serving import Gateway, method_table
from tests.posting import Poster, posting
from tests.running import RunningCore


@pytest.fixture
def database_url(tmp_path: Path, databases: Databases) -> str:
    """Return the address of one database: how rows are kept is not what these tests are about."""
    return databases.on_sqlite(tmp_path / "dripstone.db", "tables")


@pytest.fixture
async def shop(core: RunningCore) -> AsyncIterator[Poster]:
    """Post events to a whole core."""
    async with posting(core) as poster:
        yield poster


@pytest.fixture
def http(shop: Poster) -> httpx2.AsyncClient:
    """Return the bare client of `shop`."""
    return shop.http


@pytest.fixture
def mounts() -> list[BaseRoute]:
    """Return what a bootstrap would mount; tests that mount something override this."""
    return []


@pytest.fixture
async def gateway(database: Database, clock: ManualClock, mounts: list[BaseRoute]) -> AsyncIterator[Gateway]:
    """Serve the whole contract in this process."""
    nothing = cast(Any, None)
    parts = Parts(database, clock, settings=nothing, engine=nothing, versions=nothing, webhook_sender=nothing)
    pipeline = Pipeline(parts, Authenticator(database, clock), RateLimiter(clock, 500))
    made = await provisioning.create_organization(database, "Example")
    ready = [True]
    seen: list[Message] = []

    async def is_ready() -> bool:
        return ready[0]

    app = build_app(pipeline, method_table(seen), ready=is_ready, mounts=mounts)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app),
        base_url="http://core",
        headers={"authorization": f"Bearer {made.api_key}"},
    ) as http:
        yield Gateway(http, app, pipeline, made.org_id, made.agent_key, ready, seen)
