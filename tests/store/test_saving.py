"""Saving drafts of all kinds at once, and what becomes of one whose record is not there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, select

from core.clock import ManualClock
from core.store.database import Database
from core.store.records import records
from core.store.records.records import Draft, hold, record_changes, save

pytestmark = pytest.mark.anyio

ORG = "org_a"
WHO = ("key_1", "call:1")


async def _write(database: Database, **fields: str) -> records.Record:
    async with database.write(ORG) as tx:
        return (await records.upsert(tx, "contact", fields, [], actor="key_1", cause="call:0")).record


async def test_what_is_new_and_what_changes_in_any_column_is_saved_together(
    database: Database, clock: ManualClock
) -> None:
    plain = await _write(database, email="ada@example.com", city="London")
    copied = await _write(database, email="bob@example.com", owner_id="mem_a")
    same = await _write(database, email="eve@example.com")
    async with database.write(ORG) as tx:
        held = await hold(tx, [(ORG, one.id) for one in (plain, copied, same)])
        drafts = [Draft(held[ORG, one.id]) for one in (plain, copied, same)]
        drafts[0].patch({"city": "Rome", "job_title": "Countess"}, *WHO)
        drafts[1].patch({"owner_id": "mem_b", "city": "Bonn"}, *WHO)
        drafts[2].patch({"email": "eve@example.com"}, *WHO)
        new = Draft(replace(same, id="cnt_new", fields={}), created=True)
        new.patch({"city": "Oslo"}, *WHO)
        await save(tx, [*drafts, new])
    async with database.read(ORG) as tx:
        rows = {row.id: row for row in await tx.all(select(records.records))}
        changes = await tx.all(select(record_changes).where(record_changes.c.cause == "call:1"))
        places = select(func.count(record_changes.c.place.distinct())).where(record_changes.c.cause == "call:1")
        (counted,) = await tx.all(places)
    assert rows[plain.id].fields == {"email": "ada@example.com", "city": "Rome", "job_title": "Countess"}
    assert (rows[copied.id].owner_id, rows[copied.id].fields["owner_id"]) == ("mem_b", "mem_b")
    assert rows["cnt_new"].fields == {"city": "Oslo"}
    assert {id_: row.rev for id_, row in rows.items()} == {plain.id: 2, copied.id: 2, same.id: 1, "cnt_new": 1}
    assert sorted((row.record_id, row.field, row.old_value, row.new_value) for row in changes) == sorted(
        [
            (plain.id, "city", "London", "Rome"),
            (plain.id, "job_title", None, "Countess"),
            (copied.id, "owner_id", "mem_a", "mem_b"),
            (copied.id, "city", None, "Bonn"),
            ("cnt_new", "city", None, "Oslo"),
        ]
    )
    assert counted[0] == 1, "who reads changes in order sees those of a transaction together"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_no_history_is_written_of_a_record_that_is_not_there(database: Database) -> None:
    there = await _write(database, email="ada@example.com")
    draft = Draft(replace(there, id="cnt_gone"))
    draft.patch({"city": "Rome"}, *WHO)
    with pytest.raises(LookupError):
        async with database.write(ORG) as tx:
            await save(tx, [draft])
    async with database.read(ORG) as tx:
        assert not await tx.all(select(record_changes).where(record_changes.c.cause == "call:1"))
