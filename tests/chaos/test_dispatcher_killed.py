"""kill -9 of the process that sends, again and again: every message arrives, and no more often than it was killed.

Here a whole process dies at any time by the clock; `test_killed_at_every_await` goes through the moments one by one.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import select

from core import ids
from core.clock import SystemClock
from core.domain.effects import Emit
from core.domain.webhooks.retry import Preset
from core.store.database import Database
from core.store.organizations.organizations import organizations
from core.store.webhooks import deliveries, endpoints, outbox
from core.store.webhooks.deliveries import Emission
from tests.chaos.connections import connections, left_alone
from tests.chaos.ledger import Ledger
from tests.chaos.server_process import ServerProcess
from tests.databases import Databases
from tests.receiver import Receiver

pytestmark = [pytest.mark.anyio, pytest.mark.kill9]

KILLS = int(os.environ.get("DRIPSTONE_KILLS", "1"))
AT_ONCE = 40
ORG = "org_chaos"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def database_url(postgresql_server: str, databases: Databases) -> Iterator[str]:
    """Return the address of a database as a process that starts would bring it to."""
    with databases.on_postgresql(postgresql_server, "migrated") as url:
        yield url


async def _prepare(database: Database, url: str) -> None:
    row = {"org_id": ORG, "display_name": "", "timezone": "UTC", "created_at": database.clock.now()}
    async with database.system() as tx:
        await tx.insert(organizations, [row])
    async with database.write(ORG) as tx:
        name = ids.mint("ep", tx.now)
        await endpoints.create(
            tx, name, secret=SECRET, url=url, event_types=["chaos.happened"], retry_preset=Preset.QUICK
        )


async def _write(database: Database) -> list[str]:
    async with database.write(ORG) as tx:
        messages = [ids.mint("msg", tx.now) for _ in range(AT_ONCE)]
        emissions = [Emission(ORG, Emit(message, "chaos.happened", {"n": n})) for n, message in enumerate(messages)]
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
    tmp_path: Path, database_url: str, receiver: Receiver
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ledger = Ledger(receiver)
    ledger.secret = SECRET
    sending = ServerProcess(tmp_path, database_url, roles="dispatcher")
    database = await Database.open(database_url, SystemClock())
    try:
        await _prepare(database, ledger.url)
        messages: list[str] = []
        under_way = 0
        for _ in range(KILLS):
            messages += await _write(database)
            ours = await connections(database)
            await sending.start()
            await asyncio.sleep(chance.uniform(0.0, 0.4))
            await sending.kill()
            await left_alone(database, ours)
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
