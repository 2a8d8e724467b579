"""What is asked again and again, or under a lock that others wait for, looks at the few rows it is about."""

from __future__ import annotations

import pytest

from core import ids
from core.domain.enrollment import RecordFacts
from core.domain.routing.parse import compiled
from core.provisioning import create_organization
from core.store.database import Database
from core.store.merging import duplicates
from core.store.qualification import routing_sight
from core.store.records import change_feed, records
from core.store.records.records import ContactCandidate
from tests.store.effort import effort, tidy

pytestmark = pytest.mark.anyio

ACCOUNTS = compiled("""
title: Accounts
rules: [{id: known, when: has(account.owner_id), method: account_match, match: [domain_owner]}]
catch_all: {members: [cat@example.com]}
""")
_SEARCHED = "INSERT INTO duplicate_searches (org_id, place, change_id) SELECT org_id, max(place), max(id) "


async def test_neither_upkeep_nor_routings_nor_the_feed_walk_through_all_records(database: Database) -> None:
    org = (await create_organization(database, "Acme", "Europe/Berlin")).org_id
    people = [{"email": f"p{number}@firm{number}.test", "owner_id": "mem_a"} for number in range(900)]
    async with database.write(org) as tx:
        candidates = [ContactCandidate(fields) for fields in people[5:]]
        await records.resolve_contacts(tx, candidates, actor="key_1", cause="call:1")
    async with database.write(org) as tx:
        candidates = [ContactCandidate(fields) for fields in people[:5]]
        await records.resolve_contacts(tx, candidates, actor="key_1", cause="import:1")
    async with database.system() as tx:
        await tx.fetch(f"{_SEARCHED} FROM record_changes GROUP BY org_id")
    for table in ("record_changes", "record_words", "records"):
        await tidy(database, table)

    async with database.system() as tx:

        async def is_anybody_behind() -> None:
            assert await duplicates.behind(tx) == []

        await is_anybody_behind()
        assert await effort(tx, is_anybody_behind) < 40
    async with database.write(org) as tx:
        (somebody,) = await records.resolve_contacts(tx, [ContactCandidate(people[7])], actor="key_1", cause="call:2")

        async def change() -> None:
            await records.update(tx, somebody.contact_id, {"city": ids.new_secret_bytes(4).hex()}, actor="a", cause="c")

        await change()
        assert await effort(tx, change) < 100
    async with database.write(org) as tx:

        async def account() -> None:
            contact = RecordFacts("cnt_new", "contact", {"email": "new@firm7.test"})
            seen = await routing_sight.see(tx, "default", ACCOUNTS, contact, None, {})
            assert seen.sight.account == {"domain_owner": "mem_a"}

        async def of_cause() -> None:
            assert len((await change_feed.page(tx, 100, "", cause="import:1"))[0]) == 10

        # There are twice as many changes; so few records may be read whole to tell the types of some.
        for asked, most in ((account, 200), (of_cause, 1_000)):
            await asked()
            assert await effort(tx, asked) < most
