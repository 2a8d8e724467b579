"""kill -9 of the process that sends, again and again: every message arrives, and no more often than it was killed."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import select

from core import ids
from core.clock import SystemClock
from core.domain.effects import Emit
from core.store import deliveries, organizations, outbox
from core.store.database import Database
from core.store.deliveries import Emission
from core.store.transaction import EVERY_ORGANIZATION
from dripstone.v1 import webhook_pb2
from tests.chaos.ledger import Ledger
from tests.chaos.server_process import ServerProcess
from tests.receiver import Receiver

pytestmark = [pytest.mark.anyio, pytest.mark.kill9]

KILLS = int(os.environ.get("DRIPSTONE_KILLS", "3"))
AT_ONCE = 40
ROLES = "grpc,http"


async def _write(database: Database, org: str) -> list[str]:
    async with database.write(org) as tx:
        messages = [ids.mint("msg", tx.now) for _ in range(AT_ONCE)]
        emissions = [Emission(org, Emit(message, "chaos.happened", {"n": n})) for n, message in enumerate(messages)]
        await deliveries.emit(tx, emissions)
    return messages


async def _left_behind(database: Database) -> int:
    """Return how many deliveries the dead left under way, and let their leases run out early."""
    async with database.system() as tx:
        return await outbox.release_all(tx)


async def _until_sent(database: Database, messages: Sequence[str]) -> dict[str, str]:
    """Wait for every delivery to be final."""
    table = deliveries.deliveries
    async with asyncio.timeout(120):
        while True:
            async with database.system() as tx:
                rows = await tx.all(select(table.c.message_id, table.c.state).where(table.c.message_id.in_(messages)))
            states = {row.message_id: row.state for row in rows}
            if len(states) == len(messages) and "pending" not in states.values():
                return states
            await asyncio.sleep(0.2)


async def test_every_message_has_a_successful_attempt_and_repetitions_are_no_more_than_kills_account_for(
    tmp_path: Path, postgresql_url: str, receiver: Receiver
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ledger = Ledger(receiver)
    serving = ServerProcess(tmp_path / "serving", postgresql_url, roles=ROLES)
    sending = ServerProcess(tmp_path / "sending", postgresql_url, roles="dispatcher")
    await serving.start()
    async with serving.client() as client:
        created = await client.webhooks.CreateEndpoint(
            webhook_pb2.CreateEndpointRequest(
                url=ledger.url, event_types=["chaos.happened"], retry_preset=webhook_pb2.RETRY_PRESET_QUICK
            )
        )
        ledger.secret = created.secret
    database = await Database.open(postgresql_url, SystemClock())
    try:
        async with database.read(EVERY_ORGANIZATION) as tx:
            (organization,) = await tx.all(select(organizations.organizations.c.org_id))
        messages: list[str] = []
        under_way = 0
        for _ in range(KILLS):
            messages += await _write(database, organization.org_id)
            await sending.start()
            await asyncio.sleep(chance.uniform(0.0, 0.4))
            await sending.kill()
            under_way += await _left_behind(database)
        await sending.start()
        states = await _until_sent(database, messages)
    finally:
        await database.close()
    assert set(states.values()) == {"delivered"}
    assert set(ledger.arrivals) == set(messages), "every message, and none that nobody wrote"
    again = {message: times - 1 for message, times in ledger.arrivals.items() if times > 1}
    assert all(times <= KILLS for times in again.values()), again
    assert sum(again.values()) <= under_way, "only what was under way when it was killed may come again"
    assert await sending.terminate() == 0
    assert await serving.terminate() == 0
