"""A process that goes away does not wait for a slow system: it gives the sync back, and the next one goes on."""

from __future__ import annotations

import asyncio

import pytest

from core.fakes.hubspot import PRIVATE_TOKEN
from core.store.systems import syncs
from dripstone.v1 import connection_pb2, system_pb2
from tests.receiver import Held, Receiver
from tests.running import RunningCore
from tests.systems.fixtures import HUBSPOT_FIELDS, PULL, Linked, mapping

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]


async def test_a_batch_under_way_is_given_back(core: RunningCore, receiver: Receiver) -> None:
    held = Held()
    receiver.answers["/crm/v3/objects/contacts"] = held
    async with core.client() as client:
        linked = Linked(core, client, None, receiver.base)
        system = connection_pb2.SystemSettings(
            system="hubspot", base_url=receiver.base, mappings=[mapping(HUBSPOT_FIELDS, "contacts", "email")]
        )
        await linked.connect(system, system_pb2.Credentials(token=PRIVATE_TOKEN))
        begun = await linked.begin(PULL)
    turning = asyncio.create_task(core.core.outward.syncer.turn())
    await held.arrived.wait()
    core.core.parts.draining.set()
    async with asyncio.timeout(5):
        assert await turning == 0
    async with core.core.database.read(core.organization.org_id) as tx:
        row = await syncs.get(tx, begun.id)
    assert row is not None
    assert (row.state, row.lease_until, row.done_count) == ("running", None, 0)
    held.release.set()
