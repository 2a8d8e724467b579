"""A sync goes on where it was when its process is killed: nobody is left out there, and nobody is there twice."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import update

from core.clock import SystemClock
from core.fakes.hubspot import PRIVATE_TOKEN, HubSpotFake
from core.fakes.serving import serving
from core.store.database import Database
from core.store.systems import syncs
from dripstone.v1 import connection_pb2, record_pb2, system_pb2
from tests.chaos.server_process import ServerProcess
from tests.systems.fixtures import HUBSPOT_FIELDS, PUSH, mapping

pytestmark = [pytest.mark.anyio, pytest.mark.kill9]

PEOPLE = 120 if "DRIPSTONE_KILLS" in os.environ else 60


@pytest.mark.parametrize(
    "database_url", ["sqlite", *(["postgresql"] if "DRIPSTONE_KILLS" in os.environ else [])], indirect=True
)
async def test_a_killed_sync_is_carried_on_to_its_end(database_url: str, tmp_path: Path) -> None:
    fake = HubSpotFake(SystemClock())
    server = ServerProcess(tmp_path, database_url)
    await server.start()
    async with serving(fake.application()) as url:
        async with server.client() as client:
            for number in range(PEOPLE):
                request = record_pb2.UpsertRecordRequest(type="contact")
                request.fields.update({"email": f"p{number}@example.com", "first_name": f"P{number}"})
                await client.records.UpsertRecord(request)
            system = connection_pb2.SystemSettings(
                system="hubspot", base_url=url, mappings=[mapping(HUBSPOT_FIELDS, "contacts", "email")]
            )
            made = await client.connections.CreateConnection(
                connection_pb2.CreateConnectionRequest(
                    connection=connection_pb2.Connection(kind="system", system=system)
                )
            )
            await client.connections.SetCredentials(
                system_pb2.SetCredentialsRequest(
                    connection_id=made.id, credentials=system_pb2.Credentials(token=PRIVATE_TOKEN)
                )
            )
            sync = await client.connections.StartSync(
                system_pb2.StartSyncRequest(connection_id=made.id, direction=PUSH)
            )
            async with asyncio.timeout(30):
                while len(fake.stored()["contacts"]) < PEOPLE // 4:
                    await client.connections.GetSync(system_pb2.GetSyncRequest(sync_id=sync.id))
        await server.kill()
        if database_url.startswith("postgresql"):
            await _pass_the_lease(database_url)
        await server.start()
        async with asyncio.timeout(60), server.client() as client:
            while sync.state in (0, system_pb2.SYNC_STATE_RUNNING, system_pb2.SYNC_STATE_WAITING):
                sync = await client.connections.GetSync(system_pb2.GetSyncRequest(sync_id=sync.id))
            assert (sync.state, sync.failed_count, sync.done_count) == (system_pb2.SYNC_STATE_SUCCEEDED, 0, PEOPLE)
        there = Counter(one["email"] for one in fake.stored()["contacts"])
        assert there == Counter(f"p{number}@example.com" for number in range(PEOPLE))
        assert await server.terminate() == 0


async def _pass_the_lease(database_url: str) -> None:
    """Let the time pass for which other processes would leave the dead one its sync."""
    database = await Database.open(database_url, SystemClock())
    async with database.system() as tx:
        await tx.run(update(syncs.syncs).values(lease_until=None))
    await database.close()
