"""What tests of qualification start from."""

from __future__ import annotations

import pytest

from core.clock import ManualClock
from core.store.database import Database
from tests.rpc.qualifying_calls import Service


@pytest.fixture
async def service(database: Database, clock: ManualClock) -> Service:
    """Return an organization with two salespeople and a published model."""
    made = Service(database, clock)
    await made.prepare()
    return made
