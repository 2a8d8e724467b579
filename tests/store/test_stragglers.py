"""What is still written for a merged record follows it to the kept one."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from core.store.database import Database
from core.store.merging import stragglers
from core.store.merging.merges import merges as merge_table
from core.store.records import lists
from core.store.records.lists import ListChange
from core.store.workflows.enrollments import enrollments
from tests.store.people import Life, enrolled, live, standing
from tests.store.test_merges import ORG, _rows, merge_of, two, undo_of

pytestmark = pytest.mark.anyio


async def test_what_was_written_for_the_merged_contact_meanwhile_follows_too(database: Database) -> None:
    kept, merged = await two(database)
    before = await standing(database, ORG)
    row = await merge_of(database, kept, merged)
    assert await stragglers.gather(database) == 0
    async with database.write(ORG) as tx:  # as a transaction would that had found the contact before the merge
        late = await enrolled(tx, merged, "late", wait="event")
        await lists.change(tx, [ListChange(ORG, "late", merged, True, "key_1")])
    assert await stragglers.gather(database) > 0
    assert await stragglers.gather(database) == 0
    (found,) = await _rows(database, select(enrollments).where(enrollments.c.id == late))
    assert (found.contact_id, found.wait_key) == (kept, kept)
    again = await _rows(database, select(merge_table.c.moved_counts))
    assert again[0].moved_counts == {**row.moved_counts, "enrollments": 3, "lists": 2}
    assert (await undo_of(database, row.id)).conflicts == []
    (found,) = await _rows(database, select(enrollments).where(enrollments.c.id == late))
    assert (found.contact_id, found.wait_key) == (merged, merged)
    async with database.write(ORG) as tx:
        await lists.change(tx, [ListChange(ORG, "late", merged, False, "key_1")])
    assert (await standing(database, ORG))["list_members"] == before["list_members"]


async def test_what_comes_late_follows_through_every_merge_however_many_there_were(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stragglers, "_AT_ONCE", 1)
    first, second = await two(database, Life(), Life())
    async with database.write(ORG) as tx:
        third = await live(tx, Life())
    await merge_of(database, second, first)
    await merge_of(database, third, second)
    for org in ("org_b", "org_c"):
        await merge_of(database, *(await two(database, Life(), Life(), org)), org)
    async with database.write(ORG) as tx:
        late = await enrolled(tx, first, "late", wait="event")
    while await stragglers.gather(database):
        pass
    (found,) = await _rows(database, select(enrollments).where(enrollments.c.id == late))
    assert (found.contact_id, found.wait_key) == (third, third)
