"""Records that workflows make, on both databases."""

from __future__ import annotations

import pytest

from core.store.database import Database
from core.store.records import records
from core.store.workflows import created
from core.store.workflows.created import NewRecord
from tests.announcements import announced, listen

pytestmark = pytest.mark.anyio

ORG = "org_a"


async def test_records_are_made_with_history_and_told(database: Database) -> None:
    await listen(database, ORG)
    lead = NewRecord(ORG, "lead_1", "lead", {"contact_id": "cnt_1", "custom.plan": "pro"}, "workflow:w", "enr/1")
    async with database.system() as tx:
        await created.create_many(tx, [lead, NewRecord(ORG, "cmp_1", "company", {"name": "Acme"}, "workflow:w", "e")])
    async with database.read(ORG) as tx:
        found = await records.get_many(tx, ["lead_1", "cmp_1"])
        assert (await records.newest_leads(tx, ["cnt_1"]))["cnt_1"].id == "lead_1"
        changes, _ = await records.changes_page(tx, "lead_1", 10, "")
    assert found["lead_1"].fields == {"contact_id": "cnt_1", "custom": {"plan": "pro"}}
    assert (found["cmp_1"].fields, found["cmp_1"].etag) == ({"name": "Acme"}, '"1"')
    assert {(one.field, one.actor, one.cause) for one in changes} == {
        ("contact_id", "workflow:w", "enr/1"),
        ("custom.plan", "workflow:w", "enr/1"),
    }
    assert [body["type"] for body in await announced(database, ORG)] == ["record.created", "record.created"]


async def test_an_email_belongs_to_the_contact_who_had_it_first(database: Database) -> None:
    async with database.system() as tx:
        await created.create_many(tx, [NewRecord(ORG, "cnt_1", "contact", {"email": "a@example.com"}, "w", "e")])
        second = NewRecord(ORG, "cnt_2", "contact", {"email": "A@example.com", "city": "Rome"}, "w", "e")
        (written,) = await created.create_many(tx, [second])
    assert written.record.fields == {"city": "Rome"}
