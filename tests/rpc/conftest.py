"""What tests of qualification and of running workflows start from."""

from __future__ import annotations

import pytest

from core.clock import ManualClock
from core.store.database import Database
from tests.engine.parts import Parts
from tests.rpc.qualifying_calls import Service


@pytest.fixture
async def service(database: Database, clock: ManualClock) -> Service:
    """Return an organization with two salespeople and a published model."""
    made = Service(database, clock)
    await made.prepare()
    return made


@pytest.fixture
async def engine(database: Database, clock: ManualClock) -> Parts:
    """Return an organization whose engine the test turns."""
    made = Parts(database, clock)
    await made.begin()
    return made
