"""What is older than it is kept goes, whole days at once where that is possible; nothing that is pending does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.engine.scheduler import Scheduler
from core.store import postgresql, retention
from core.store.database import Database
from core.store.metadata import day_of, to_micros
from core.store.retention import Kept
from tests.conftest import START

pytestmark = pytest.mark.anyio

KEPT = Kept(webhook_days=30, event_days=90, trace_days=365)
TABLES = ("messages", "deliveries", "delivery_attempts", "events", "trace_entries")


class History:
    """Rows of many days, made as if they had been written on those days."""

    def __init__(self, database: Database, clock: ManualClock):
        self.database, self.clock = database, clock
        self.today = day_of(clock.now())

    async def partitions_of(self, *ages: int) -> None:
        if self.database.is_postgresql:
            async with self.database.system() as tx:
                for age in ages:
                    day = self.today - age
                    for table in TABLES:
                        sql = f"CREATE TABLE {table}_{day} PARTITION OF {table} FOR VALUES FROM ({day}) TO ({day + 1})"
                        await tx.fetch(sql)

    async def add(self, table: str, age: int, **values: Any) -> None:
        row = {**_ROWS[table], "org_id": "org_a", "day": self.today - age, "bucket": 1, **values}
        names = ", ".join(row)
        marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        async with self.database.system() as tx:
            await tx.fetch(f"INSERT INTO {table} ({names}) VALUES ({marks})", *row.values())

    async def message(self, age: int, state: str = "delivered") -> None:
        name = f"{age}_{state}"
        await self.add("messages", age, id=f"msg_{name}")
        await self.add("deliveries", age, id=f"dlv_{name}", message_id=f"msg_{name}", state=state)
        await self.add("delivery_attempts", age, delivery_id=f"dlv_{name}")

    async def ages(self, table: str) -> list[int]:
        async with self.database.system() as tx:
            rows = await tx.fetch(f"SELECT day FROM {table} ORDER BY day DESC")
        return [self.today - day for (day,) in rows]

    async def partitions(self, table: str) -> list[str]:
        async with self.database.system() as tx:
            return await postgresql.old_partitions(tx, table, self.today)


_NOW = to_micros(START)
_ROWS: dict[str, dict[str, Any]] = {
    "messages": {"id": "", "event_type": "deal.won", "payload": "{}", "enrollment_id": "", "created_at": _NOW},
    "deliveries": {
        "id": "", "message_id": "", "endpoint_id": "ep_1", "event_type": "deal.won", "enrollment_id": "",
        "awaited": False, "state": "delivered", "attempt_count": 1, "attempts_before": 0, "last_outcome": "",
        "created_at": _NOW,
    },
    "delivery_attempts": {
        "delivery_id": "", "number": 1, "started_at": _NOW, "duration_us": 1, "outcome": "delivered",
        "status_code": 200, "response": "", "error": "",
    },
    "events": {
        "id": "", "source_id": "app", "event_type": "action", "event_name": "x", "fields": "{}",
        "occurred_at": _NOW, "received_at": _NOW, "message_id": "", "match_due_at": None,
    },
    "trace_entries": {
        "enrollment_id": "", "seq": 1, "at": _NOW, "step_id": "", "kind": "log", "outcome": "ok", "exit": "",
        "reason": "", "inputs": "{}", "effects": "[]",
    },
}  # fmt: skip


@pytest.fixture
def history(database, clock):
    return History(database, clock)


async def test_deliveries_and_all_that_hangs_on_them_go_together(history, database):
    await history.partitions_of(60, 31, 30, 1)
    for age in (60, 31, 30, 1, 0):
        await history.message(age)
    await history.message(45)  # on PostgreSQL in the default partition
    await retention.forget(database, KEPT)
    for table in ("messages", "deliveries", "delivery_attempts"):
        assert await history.ages(table) == [0, 1, 30]
        if database.is_postgresql:
            assert len(await history.partitions(table)) == 2
    assert await retention.forget(database, KEPT) == 0, "there is nothing more to do"


async def test_nothing_that_is_pending_is_ever_dropped_and_what_it_needs_stays_with_it(history, database):
    await history.partitions_of(200)
    for age in (200, 150):
        await history.message(age, "pending")
        await history.message(age, "failed")
    await history.add("events", 200, id="evt_1", match_due_at=_NOW)
    await history.add("events", 200, id="evt_2")
    await retention.forget(database, KEPT)
    for table in ("messages", "deliveries", "delivery_attempts"):
        assert await history.ages(table) == [150, 200]
    assert await history.ages("events") == [200]


async def test_the_trace_of_who_is_still_under_way_stays(history, database):
    await history.partitions_of(400)
    for enrollment, state in (("enr_1", "active"), ("enr_2", "completed")):
        await history.add("trace_entries", 400, enrollment_id=enrollment)
        async with database.system() as tx:
            row = {
                "org_id": "org_a", "id": enrollment, "bucket": 1, "workflow_id": "w", "version": 1,
                "contact_id": enrollment, "key": "", "occurrence": 1, "actor": "", "state": state, "step_id": "",
                "rev": 1, "trace_count": 1, "data": "{}", "end_reason": "", "entered_at": _NOW, "moved_at": _NOW,
            }  # fmt: skip
            marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
            await tx.fetch(f"INSERT INTO enrollments ({', '.join(row)}) VALUES ({marks})", *row.values())
    await retention.forget(database, KEPT)
    async with database.system() as tx:
        ((left,),) = await tx.fetch("SELECT enrollment_id FROM trace_entries")
    assert left == "enr_1"


async def test_zero_days_keep_for_ever(history, database):
    await history.message(5_000)
    assert await retention.forget(database, Kept(webhook_days=0, event_days=0, trace_days=0)) == 0
    assert await history.ages("deliveries") == [5_000]


async def test_upkeep_forgets_once_an_hour(history, database, clock):
    scheduler = Scheduler(database, KEPT)
    await scheduler.turn()
    await history.message(40)
    clock.advance(timedelta(minutes=59))
    await scheduler.turn()
    assert await history.ages("messages") == [40]
    clock.advance(timedelta(minutes=1))
    await scheduler.turn()
    assert await history.ages("messages") == []


async def test_many_old_rows_go_in_small_batches(history, database, monkeypatch):
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 3)
    for age in range(40, 60):
        await history.add("messages", age, id=f"msg_{age}")
    assert await retention.forget(database, KEPT) == 7
    assert await history.ages("messages") == []


async def test_a_partition_that_others_use_is_left_for_the_next_round(postgresql_database, clock):
    history = History(postgresql_database, clock)
    await history.partitions_of(60)
    await history.message(60)
    async with postgresql_database.write("org_a") as tx:
        await tx.fetch("SELECT 1 FROM deliveries")
        await retention.forget(postgresql_database, KEPT)
        assert len(await history.partitions("deliveries")) == 1
    await retention.forget(postgresql_database, KEPT)
    assert await history.partitions("deliveries") == []
