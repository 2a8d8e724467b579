"""Who is who on both databases: conflicts are kept once and settled, and only what is safe is merged unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Row, select

from core.rpc.writing import written
from core.store.database import Database
from core.store.merging import identity_conflicts, merging, unmerging
from core.store.merging.identity_conflicts import identity_conflicts as table
from core.store.merging.merges import merges
from core.store.records import records
from core.store.records.records import ContactCandidate, Resolved
from tests.store.people import Life, live

pytestmark = pytest.mark.anyio

ORG = "org_a"


async def _event(database: Database, event_id: str, *identifiers: tuple[str, str], **fields: Any) -> Resolved:
    candidate = ContactCandidate(fields, identifiers, observed=True, cause=f"event:{event_id}")
    async with database.write(ORG) as tx:
        return (await records.resolve_contacts(tx, [candidate], actor="source", cause=""))[0]


async def _people(database: Database, *lives: Life) -> list[str]:
    async with database.write(ORG) as tx:
        return [await live(tx, life, number) for number, life in enumerate(lives)]


async def _all(database: Database, what: Any = table) -> Sequence[Row[Any]]:
    async with database.read(ORG) as tx:
        return await tx.all(select(what).order_by(what.c.id))


ADA = Life({"email": "ada@example.com"}, [("person_id", "P1")])
BOB = Life({"email": "bob@example.com"}, [("person_id", "P2")])


async def test_a_conflict_is_kept_once_and_counted(database: Database) -> None:
    ada, bob = await _people(database, ADA, BOB)
    for number in range(3):
        found = await _event(database, f"evt_{number}", ("person_id", "P2"), email="ada@example.com")
        assert (found.contact_id, [one.record_id for one in found.conflicts]) == (ada, [bob])
    (row,) = await _all(database)
    assert (row.chosen_id, row.other_id, row.kind, row.value) == (ada, bob, "person_id", "P2")
    assert (row.seen_count, row.cause, row.state) == (3, "event:evt_2", "open")
    assert await _all(database, merges) == []


async def test_who_is_kept_apart_is_not_told_again(database: Database) -> None:
    ada, bob = await _people(database, ADA, BOB)
    await _event(database, "evt_1", ("person_id", "P2"), email="ada@example.com")
    async with database.write(ORG) as tx:
        await identity_conflicts.keep_apart(tx, ada, bob, "mem_1")
    await _event(database, "evt_2", ("person_id", "P2"), email="ada@example.com")
    await _event(database, "evt_3", ("person_id", "P1"), email="bob@example.com")
    (row,) = await _all(database)
    assert (row.state, row.seen_count, row.resolved_by) == ("kept_apart", 1, "mem_1")


async def test_a_merge_settles_what_the_two_conflicted_about_and_undoing_opens_it(database: Database) -> None:
    ada, bob = await _people(database, ADA, BOB)
    (carl,) = await _people(database, Life({"email": "carl@example.com"}, [("person_id", "P3")]))
    await _event(database, "evt_1", ("person_id", "P2"), email="ada@example.com")
    await _event(database, "evt_2", ("person_id", "P2"), email="carl@example.com")
    async with database.write(ORG) as tx:
        merge = await merging.merge(tx, ada, bob, actor="mem_1", cause="call:1")
    found = {(row.chosen_id, row.other_id): (row.state, row.merge_id) for row in await _all(database)}
    assert found == {(ada, bob): ("merged", merge.id), (carl, ada): ("open", "")}
    async with database.write(ORG) as tx:
        await unmerging.undo(tx, merge.id, actor="mem_1")
    found = {(row.chosen_id, row.other_id): (row.state, row.merge_id) for row in await _all(database)}
    assert found == {(ada, bob): ("open", ""), (carl, bob): ("open", "")}


SAFE = (Life({"email": "ada@example.com"}, [("ext:crm", "1")]), Life({"city": "London"}, [("person_id", "P1")]))
UNSAFE = {
    "both have an e-mail": (Life({"email": "ada@example.com"}, [("ext:crm", "1")]), BOB),
    "both have a person id": (ADA, Life({"city": "London"}, [("person_id", "P2")])),
    "one system has a name for each": (
        Life({"email": "ada@example.com"}, [("ext:crm", "1")]),
        Life({"city": "London"}, [("person_id", "P2"), ("ext:crm", "2")]),
    ),
}


async def test_an_event_joins_who_has_only_a_person_id_to_who_has_only_the_e_mail(database: Database) -> None:
    by_email, by_person_id = await _people(database, *SAFE)
    found = await _event(database, "evt_1", ("person_id", "P1"), email="ada@example.com")
    assert (found.contact_id, found.conflicts) == (by_email, ())
    assert found.record is not None
    assert found.record.fields == {"email": "ada@example.com", "city": "London"}
    (merge,) = await _all(database, merges)
    assert (merge.kept_id, merge.merged_id, merge.actor, merge.cause) == (
        by_email,
        by_person_id,
        "source",
        "event:evt_1",
    )
    assert await _all(database) == []


@pytest.mark.parametrize("why", UNSAFE)
async def test_nothing_is_merged_unasked_where(why: str, database: Database) -> None:
    by_email, by_person_id = await _people(database, *UNSAFE[why])
    found = await _event(database, "evt_1", ("person_id", "P2"), email="ada@example.com")
    assert (found.contact_id, [one.record_id for one in found.conflicts]) == (by_email, [by_person_id])
    assert await _all(database, merges) == []
    assert len(await _all(database)) == 1


async def test_who_was_taken_apart_by_hand_is_not_joined_again(database: Database) -> None:
    by_email, by_person_id = await _people(database, *SAFE)
    await _event(database, "evt_1", ("person_id", "P1"), email="ada@example.com")
    (merge,) = await _all(database, merges)
    async with database.write(ORG) as tx:
        await unmerging.undo(tx, merge.id, actor="mem_1")
    found = await _event(database, "evt_2", ("person_id", "P1"), email="ada@example.com")
    assert (found.contact_id, [one.record_id for one in found.conflicts]) == (by_email, [by_person_id])
    assert len(await _all(database, merges)) == 1


async def test_the_same_event_from_many_at_once_merges_once(postgresql_database: Database) -> None:
    database = postgresql_database
    by_email, by_person_id = await _people(database, *SAFE)
    candidate = ContactCandidate({"email": "ada@example.com"}, (("person_id", "P1"),), observed=True, cause="event:e")
    found = await asyncio.gather(
        *(
            written(database, ORG, lambda tx: records.resolve_contacts(tx, [candidate], actor="source", cause=""))
            for _ in range(8)
        )
    )
    assert {one.contact_id for (one,) in found} == {by_email}
    (merge,) = await _all(database, merges)
    assert (merge.kept_id, merge.merged_id) == (by_email, by_person_id)
