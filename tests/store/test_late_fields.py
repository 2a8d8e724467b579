"""What is known of fields when something is said late, on both databases: the newest, found by index, and no more."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.dialects import postgresql, sqlite

from core.clock import ManualClock
from core.domain import names
from core.store.database import Database
from core.store.records import late_fields, records
from core.store.records.record_rows import record_changes
from tests.conftest import START
from tests.store.effort import effort, tidy

pytestmark = pytest.mark.anyio

ORG = "org_a"
AS_OF = {"cnt_1": START + timedelta(hours=1), "cnt_2": START + timedelta(hours=2)}


def _row(record_id: str, field: str, minutes: int, number: int = 0) -> tuple[object, ...]:
    at = START + timedelta(minutes=minutes)
    change_id = names.compose("chg", at, (number << 48) | int(record_id.removeprefix("cnt_")))
    return ORG, change_id, record_id, field, None, "x", "key_1", "call:1", at


async def _write(database: Database, *rows: tuple[object, ...]) -> None:
    async with database.system() as tx:
        columns = "org_id id record_id field old_value new_value actor cause created_at".split()
        await tx.bulk_insert(record_changes, columns, rows)


async def test_the_newest_change_of_each_field_that_is_asked_for_counts(database: Database) -> None:
    await _write(
        database,
        _row("cnt_1", "city", 30),
        _row("cnt_1", "city", 90),
        _row("cnt_1", "city", 95),
        _row("cnt_1", "country", 30, 1),
        _row("cnt_1", "first_name", 96),
        _row("cnt_2", "city", 150),
        _row("cnt_3", "city", 150),
    )
    async with database.read(ORG) as tx:
        found = await late_fields.set_since(tx, AS_OF, ["city", "country"])
        assert await late_fields.set_since(tx, AS_OF, []) == {}
    async with database.read("org_b") as tx:
        assert await late_fields.set_since(tx, AS_OF, ["city"]) == {}
    assert found == {
        "cnt_1": {"city": START + timedelta(minutes=95)},
        "cnt_2": {"city": START + timedelta(minutes=150)},
    }


async def test_neither_older_changes_nor_other_records_are_looked_at(database: Database) -> None:
    rows = [_row("cnt_1", "city", 1, number) for number in range(2_000)]
    rows += [_row(f"cnt_{number}", "city", 100) for number in range(10, 2_000)]
    await _write(database, *rows, _row("cnt_1", "city", 90))
    await tidy(database, "record_changes")
    async with database.write(ORG) as tx:

        async def asked() -> None:
            assert len(await late_fields.set_since(tx, AS_OF, ["city"])) == 1

        await asked()
        assert await effort(tx, asked) < 60


async def test_the_index_of_a_record_s_changes_is_searched(database: Database) -> None:
    dialect = postgresql.dialect() if database.is_postgresql else sqlite.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy
    query = late_fields.newest(ORG, AS_OF, ["city", "country"])
    sql = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    await _write(database, *(_row(f"cnt_{number}", "city", 100) for number in range(1, 2_000)))
    await tidy(database, "record_changes")
    async with database.read(ORG) as tx:
        explain = "EXPLAIN" if database.is_postgresql else "EXPLAIN QUERY PLAN"
        plan = "\n".join(str(row[-1]) for row in await tx.fetch(f"{explain} {sql}"))
    assert "record_changes_record" in plan
    if database.is_postgresql:
        condition = next(line for line in plan.splitlines() if "Index Cond" in line)
        assert all(name in condition for name in ("org_id", "record_id", "id >=")), plan
        assert "Seq Scan" not in plan
    else:
        assert "USING INDEX record_changes_record (org_id=? AND record_id=? AND id>?)" in plan


async def test_a_late_event_still_undoes_nothing(database: Database, clock: ManualClock) -> None:
    """The rule itself, end to end, is in tests/rpc/test_ingestion.py; here with many changes in between."""
    async with database.write(ORG) as tx:
        made = await records.upsert(tx, "contact", {"email": "a@example.com", "city": "0"}, actor="k", cause="c")
    seen = clock.now()
    for number in range(1, 20):
        clock.advance(timedelta(minutes=10))
        async with database.write(ORG) as tx:
            await records.update(tx, made.record.id, {"city": str(number)}, actor="k", cause="c")
    candidate = records.ContactCandidate(
        {"email": "a@example.com", "city": "late", "country": "FR"}, observed=True, as_of=seen + timedelta(minutes=5)
    )
    async with database.write(ORG) as tx:
        (found,) = await records.resolve_contacts(tx, [candidate], actor="k", cause="event:x")
    assert found.record is not None
    assert (found.record.fields["city"], found.record.fields["country"]) == ("19", "FR")
