"""Merges beside others: every pair of writers meets at a lock, and none of them loses what it wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select, update

from core.domain.errors import RecordMerged
from core.rpc.writing import written
from core.store.database import Database
from core.store.merging import merging, unmerging
from core.store.merging.merges import merges
from core.store.records import records
from core.store.records.records import ContactCandidate, RecordUpdate
from core.store.transaction import Transaction
from core.store.workflows import claims
from core.store.workflows.enrollments import enrollments
from tests.databases import somebody_waits
from tests.store.people import Life, enrolled, live

pytestmark = pytest.mark.anyio

ORG = "org_a"
WHO = {"actor": "key_1", "cause": "call:1"}
ROUNDS = range(12)


async def _people(database: Database, *lives: Life) -> list[str]:
    async with database.write(ORG) as tx:
        return [await live(tx, life, number) for number, life in enumerate(lives)]


async def _write(database: Database, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
    """Do work as a call would: again where it only failed because of others."""
    return await written(database, ORG, work)


def _merge(database: Database, kept: str, merged: str) -> Awaitable[Any]:
    return _write(database, lambda tx: merging.merge(tx, kept, merged, **WHO))


async def test_of_two_merges_into_each_other_one_wins(postgresql_database: Database) -> None:
    for _ in ROUNDS:
        one, other = await _people(postgresql_database, Life({"city": "London"}), Life({"country": "GB"}, leads=1))
        done = await asyncio.gather(
            _merge(postgresql_database, one, other), _merge(postgresql_database, other, one), return_exceptions=True
        )
        assert sorted(type(item).__name__ for item in done) == ["RecordMerged", "Row"]
        async with postgresql_database.read(ORG) as tx:
            there = await records.get_many(tx, [one, other])
        assert [record.fields for record in there.values()] == [{"city": "London", "country": "GB"}]


async def test_two_merges_into_one_record_lose_nothing(postgresql_database: Database) -> None:
    for _ in ROUNDS:
        kept, *others = await _people(
            postgresql_database,
            Life({"city": "London"}),
            *(Life({f"custom.f{number}": number}, lists=frozenset({f"l{number}"}), leads=1) for number in range(4)),
        )
        await asyncio.gather(*(_merge(postgresql_database, kept, other) for other in others))
        async with postgresql_database.read(ORG) as tx:
            record = await records.get(tx, kept)
            assert record is not None
            assert record.fields == {"city": "London", "custom": {f"f{number}": number for number in range(4)}}
            assert len(await records.leads_of(tx, [kept])) == 4


async def test_an_update_at_the_same_time_is_kept_or_told_where_the_record_went(postgresql_database: Database) -> None:
    for _ in ROUNDS:
        kept, merged = await _people(postgresql_database, Life({"city": "London"}), Life({"country": "GB"}))
        outcomes: tuple[Any, ...] = await asyncio.gather(
            _write(postgresql_database, lambda tx: records.update(tx, merged, {"language": "en"}, **WHO)),  # noqa: B023
            _merge(postgresql_database, kept, merged),
            return_exceptions=True,
        )
        async with postgresql_database.read(ORG) as tx:
            record = await records.get(tx, kept)
        assert record is not None
        if isinstance(outcomes[0], RecordMerged):
            assert "language" not in record.fields
        else:
            assert record.fields["language"] == "en"


async def test_events_at_the_same_time_find_one_of_the_two_and_end_with_the_kept_one(
    postgresql_database: Database,
) -> None:
    for number in ROUNDS:
        kept, merged = await _people(
            postgresql_database, Life({}, [("person_id", f"K{number}")]), Life({}, [("person_id", f"M{number}")])
        )

        def told(person: str, field: str) -> Awaitable[Any]:
            candidate = ContactCandidate({field: "x"}, (("person_id", person),), observed=True)
            return _write(postgresql_database, lambda tx: records.resolve_contacts(tx, [candidate], **WHO))

        await asyncio.gather(
            told(f"M{number}", "city"), _merge(postgresql_database, kept, merged), told(f"M{number}", "country")
        )
        (after,) = await told(f"M{number}", "language")
        assert (after.contact_id, after.record.fields) == (kept, {"city": "x", "country": "x", "language": "x"})


async def test_a_merge_waits_for_the_engine_and_follows_what_it_did(postgresql_database: Database) -> None:
    database = postgresql_database
    kept, merged = await _people(database, Life({"city": "London"}), Life({"country": "GB"}))
    async with database.write(ORG) as tx:
        enrollment = await enrolled(tx, merged, "nurture", wait="event")
    async with database.system() as tx:  # an engine's batch: it holds the enrollment, then writes the contact
        (held,) = await claims.claim_by_id(tx, [(ORG, enrollment)])
        merge = asyncio.ensure_future(_merge(database, kept, merged))
        await somebody_waits(database)
        await records.apply_updates(
            tx, [RecordUpdate(ORG, merged, {"language": "en"}, "workflow:nurture", f"enrollment:{enrollment}/4")]
        )
        c = enrollments.c
        moved = update(enrollments).where(c.id == held.id).values(step_id="later", rev=held.rev + 1)
        await tx.run(moved)
    await merge
    async with database.read(ORG) as tx:
        row = await tx.first(select(enrollments).where(c.id == enrollment))
        record = await records.get(tx, kept)
    assert row is not None
    assert record is not None
    assert (row.contact_id, row.wait_key, row.step_id, row.rev) == (kept, kept, "later", held.rev + 2)
    assert record.fields["language"] == "en"


async def test_a_merge_is_undone_once(postgresql_database: Database) -> None:
    for _ in ROUNDS:
        kept, merged = await _people(postgresql_database, Life({"city": "London"}), Life({"country": "GB"}, leads=2))
        row = await _merge(postgresql_database, kept, merged)
        done = await asyncio.gather(
            *(
                _write(postgresql_database, lambda tx: unmerging.undo(tx, row.id, actor="key_1"))  # noqa: B023
                for _ in range(3)
            ),
            return_exceptions=True,
        )
        assert sorted(type(item).__name__ for item in done) == ["Row", "WrongState", "WrongState"]
    async with postgresql_database.read(ORG) as tx:
        assert [one.conflicts for one in await tx.all(select(merges))] == [[]] * len(ROUNDS)
