"""Lists of contacts, on both databases."""

from __future__ import annotations

import pytest

from core.domain.errors import Invalid
from core.store.database import Database
from core.store.records import lists
from core.store.records.lists import ListChange
from tests.conftest import START

pytestmark = pytest.mark.anyio

ORG = "org_a"


def on(name: str, contact: str, org: str = ORG) -> ListChange:
    return ListChange(org, name, contact, True, "workflow:nurture")


def off(name: str, contact: str, org: str = ORG) -> ListChange:
    return ListChange(org, name, contact, False, "workflow:nurture")


async def change(database: Database, *changes: ListChange) -> int:
    async with database.system() as tx:
        return await lists.change(tx, changes)


async def test_contacts_are_put_on_lists_and_taken_off(database: Database) -> None:
    assert await change(database, on("vip", "cnt_1"), on("vip", "cnt_2"), on("trial", "cnt_1")) == 3
    assert await change(database, on("vip", "cnt_1"), off("trial", "cnt_1"), off("trial", "cnt_9")) == 1
    async with database.read(ORG) as tx:
        assert await lists.names(tx) == {"vip": 2}
        assert (await lists.count(tx, "vip"), await lists.count(tx, "trial")) == (2, 0)
        rows, token = await lists.members(tx, "vip", 10, "")
    assert [(row.contact_id, row.added_at, row.actor) for row in rows] == [
        ("cnt_2", START, "workflow:nurture"),
        ("cnt_1", START, "workflow:nurture"),
    ]
    assert token == ""


async def test_of_two_changes_in_one_batch_the_later_one_counts(database: Database) -> None:
    await change(database, on("vip", "cnt_1"), off("vip", "cnt_1"), off("old", "cnt_1"), on("old", "cnt_1"))
    async with database.system() as tx:
        assert await lists.of_contacts(tx, [(ORG, "cnt_1")]) == {(ORG, "cnt_1"): frozenset({"old"})}


async def test_the_lists_of_many_contacts_of_several_organizations_are_told_at_once(database: Database) -> None:
    await change(database, on("vip", "cnt_1"), on("trial", "cnt_1"), on("vip", "cnt_2"), on("vip", "cnt_1", "org_b"))
    async with database.system() as tx:
        found = await lists.of_contacts(tx, [(ORG, "cnt_1"), (ORG, "cnt_3"), ("org_b", "cnt_1"), ("org_b", "cnt_2")])
        assert await lists.of_contacts(tx, []) == {}
    assert found == {
        (ORG, "cnt_1"): frozenset({"vip", "trial"}),
        (ORG, "cnt_3"): frozenset(),
        ("org_b", "cnt_1"): frozenset({"vip"}),
        ("org_b", "cnt_2"): frozenset(),
    }


async def test_a_caller_changes_and_sees_the_lists_of_its_own_organization_alone(database: Database) -> None:
    await change(database, on("vip", "cnt_1"))
    async with database.write("org_b") as tx:
        assert await lists.change(tx, [on("vip", "cnt_5"), off("vip", "cnt_1")]) == 1
    async with database.read("org_b") as tx:
        assert await lists.names(tx) == {"vip": 1}
    async with database.read(ORG) as tx:
        assert [row.contact_id for row in (await lists.members(tx, "vip", 10, ""))[0]] == ["cnt_1"]


async def test_members_come_page_by_page(database: Database) -> None:
    await change(database, *(on("vip", f"cnt_{n}") for n in range(5)))
    async with database.read(ORG) as tx:
        first, token = await lists.members(tx, "vip", 3, "")
        second, end = await lists.members(tx, "vip", 3, token)
        with pytest.raises(Invalid):
            await lists.members(tx, "trial", 3, token)
    assert [row.contact_id for row in (*first, *second)] == ["cnt_4", "cnt_3", "cnt_2", "cnt_1", "cnt_0"]
    assert end == ""
