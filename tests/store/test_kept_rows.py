"""What a transaction has read of records is not read again to change them, and is never older than what it wrote."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import bindparam, select, update

from core.store.database import Database
from core.store.erasing import erasing
from core.store.merging import merging, unmerging
from core.store.metadata import to_micros
from core.store.records import deleting, records, reverting
from core.store.records.record_rows import Record, hold, to_record
from core.store.records.records import RecordUpdate
from core.store.records.reverting import Named
from core.store.session import Write
from core.store.transaction import EVERY_ORGANIZATION, Transaction
from core.store.workflows import claims

pytestmark = pytest.mark.anyio

ORG = "org_a"
WHO = {"actor": "key_1", "cause": "call:2"}
Change = Callable[[Transaction, str, str], Awaitable[object]]
"""Changes Ada's record, whose id comes first, in a transaction of her organization."""

table = records.records


async def people(database: Database) -> tuple[str, str]:
    """Write Ada with a lead and Bob, and return their ids."""
    found = []
    async with database.write(ORG) as tx:
        for name in ("ada", "bob"):
            fields = {"email": f"{name}@example.com", "city": "London"}
            found.append((await records.upsert(tx, "contact", fields, (), actor="key_1", cause="call:1")).record.id)
        lead = {"contact_id": found[0], "lead_ref": "1"}
        await records.upsert(tx, "lead", lead, (), actor="key_1", cause="call:1")
        await records.update(tx, found[0], {"city": "Rome"}, actor="key_1", cause="call:1.5")
    return found[0], found[1]


async def look(tx: Transaction, *ids: str) -> None:
    await claims.contacts_and_leads(tx, [(ORG, one) for one in ids], claims.NOBODY)


async def stored(tx: Transaction, *ids: str) -> dict[tuple[str, str], Record]:
    rows = await tx.all(select(table).where(table.c.id.in_(ids), table.c.deleted_at.is_(None)))
    return {(ORG, row.id): to_record(row) for row in rows}


async def _upsert(tx: Transaction, ada: str, bob: str) -> None:
    fields = {"email": "ada@example.com", "city": "Oslo"}
    await records.upsert(tx, "contact", fields, (), actor="key_1", cause="call:2")


async def _set(tx: Transaction, ada: str, bob: str) -> None:
    await records.update(tx, ada, {"city": "Oslo"}, **WHO)


async def _set_many(tx: Transaction, ada: str, bob: str) -> None:
    await records.apply_updates(tx, [RecordUpdate(ORG, ada, {"city": "Oslo"}, "key_1", "call:2")])


async def _delete(tx: Transaction, ada: str, bob: str) -> None:
    await deleting.delete(tx, [await deleting.find(tx, ada)], **WHO)


async def _delete_and_restore(tx: Transaction, ada: str, bob: str) -> None:
    await _delete(tx, ada, bob)
    await look(tx, ada, bob)
    await deleting.restore(tx, ada, **WHO)


async def _merge(tx: Transaction, ada: str, bob: str) -> None:
    await merging.merge(tx, bob, ada, actor="key_1", cause="call:2")


async def _merge_and_undo(tx: Transaction, ada: str, bob: str) -> None:
    merge = await merging.merge(tx, bob, ada, actor="key_1", cause="call:2")
    await look(tx, ada, bob)
    await unmerging.undo(tx, merge.id, actor="key_1")


async def _erase(tx: Transaction, ada: str, bob: str) -> None:
    await erasing.erase(tx, ada, reason="", actor="key_1")


async def _take_back(tx: Transaction, ada: str, bob: str) -> None:
    found = await reverting.look(tx, Named(cause="call:1.5"), [ada])
    assert await reverting.carry_out(tx, found, **WHO)


RAW = "UPDATE records SET rev = 9 WHERE id = $1"


async def _run(tx: Transaction, ada: str, bob: str) -> None:
    await tx.run(update(table).where(table.c.id == ada).values(rev=9))


async def _run_many(tx: Transaction, ada: str, bob: str) -> None:
    await tx.run_many(update(table).where(table.c.id == bindparam("which")).values(rev=9), [{"which": ada}])


async def _returning(tx: Transaction, ada: str, bob: str) -> None:
    await tx.first(update(table).where(table.c.id == ada).values(rev=9).returning(table.c.id))


async def _all_returning(tx: Transaction, ada: str, bob: str) -> None:
    await tx.all(update(table).where(table.c.id == ada).values(rev=9).returning(table.c.id))


async def _fetch(tx: Transaction, ada: str, bob: str) -> None:
    await tx.fetch(RAW, ada)


async def _within(tx: Transaction, ada: str, bob: str) -> None:
    await tx.within(ORG).fetch(RAW, ada)


async def _with(tx: Transaction, ada: str, bob: str) -> None:
    await tx.fetch(f"WITH who AS (SELECT $1 AS id) {RAW.replace('$1', '(SELECT id FROM who)')}", ada)


EVERYWHERE: dict[str, Change] = {
    **{"upsert": _upsert, "update": _set, "updates": _set_many, "delete": _delete, "restore": _delete_and_restore},
    **{"merge": _merge, "undo": _merge_and_undo, "erase": _erase, "take back": _take_back},
    **{"run": _run, "run many": _run_many, "first": _returning, "all": _all_returning},
    **{"fetch": _fetch, "within": _within, "with": _with},
}


async def _write_many(tx: Transaction, ada: str, bob: str) -> None:
    await tx.write_many("UPDATE records SET rev = 9 WHERE id = ?", [(ada,)])


async def _write_each(tx: Transaction, ada: str, bob: str) -> None:
    other: Write = ("UPDATE enrollments SET rev = rev WHERE id = ?", [])
    await tx.write_each(other, ("UPDATE records SET rev = 9 WHERE id = ?", [(ada,)]))


async def _driver(tx: Transaction, ada: str, bob: str) -> None:
    driver = await tx.driver()
    await look(tx, ada, bob)
    await driver.execute("UPDATE records SET rev = 9 WHERE id = ?", (ada,))


async def _replace(tx: Transaction, ada: str, bob: str) -> None:
    names = "org_id, id, type, fields, rev, created_at, updated_at"
    values = (ORG, ada, to_micros(tx.now))
    await tx.fetch(f"REPLACE INTO records ({names}) VALUES ($1, $2, 'contact', '{{}}', 9, $3, $3)", *values)


async def _savepoint(tx: Transaction, ada: str, bob: str) -> None:
    await tx.fetch("SAVEPOINT here")
    await tx.fetch(RAW, ada)
    await look(tx, ada, bob)
    await tx.fetch("ROLLBACK TO here")


ON_SQLITE: dict[str, Change] = {
    **{"write many": _write_many, "write each": _write_each, "driver": _driver, "replace": _replace},
    **{"savepoint": _savepoint},
}


@pytest.mark.parametrize("how", EVERYWHERE)
async def test_what_was_changed_since_is_read_again(database: Database, how: str) -> None:
    await _changes(database, EVERYWHERE[how])


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", ON_SQLITE)
async def test_what_was_changed_since_by_other_means_is_read_again(database: Database, how: str) -> None:
    await _changes(database, ON_SQLITE[how])


async def _changes(database: Database, write: Change) -> None:
    ada, bob = await people(database)
    async with database.write(ORG) as tx:
        await look(tx, ada, bob)
        await write(tx, ada, bob)
        assert await hold(tx, [(ORG, ada), (ORG, bob)]) == await stored(tx, ada, bob)


async def test_two_changes_in_a_row_are_both_kept(database: Database) -> None:
    ada, bob = await people(database)
    async with database.system() as tx:
        await look(tx, ada, bob)
        for fields in ({"city": "Oslo"}, {"job_title": "Countess"}):
            updates = [RecordUpdate(ORG, one, fields, "workflow:w", "enrollment:enr_1/2") for one in (ada, bob)]
            await records.apply_updates(tx, updates)
        rows = {row.id: row for row in await tx.all(select(table))}
    assert {one: (rows[one].fields["city"], rows[one].fields["job_title"], rows[one].rev) for one in (ada, bob)} == {
        ada: ("Oslo", "Countess", 4),
        bob: ("Oslo", "Countess", 3),
    }


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_was_read_is_held_without_reading_it_again(database: Database) -> None:
    ada, bob = await people(database)
    asked: list[str] = []
    async with database.system() as tx:
        raw = (await tx.driver())._conn  # every write goes through this one connection
        raw.set_trace_callback(asked.append)
    async with database.system() as tx:
        await look(tx, ada)
        await tx.fetch("UPDATE enrollments SET rev = rev")
        asked.clear()
        held = await hold(tx.within(ORG), [(ORG, ada)])
        assert not asked
        both = await hold(tx, [(ORG, ada), (ORG, bob), ("org_b", ada)])
        assert len(asked) == 1
        assert held == {(ORG, ada): both[ORG, ada]} == await stored(tx, ada)
        assert set(both) == {(ORG, ada), (ORG, bob)}
    async with database.system() as tx:
        asked.clear()
        await hold(tx, [(ORG, ada)])
        assert len(asked) == 2, "the next transaction begins, and knows nothing"
    raw.set_trace_callback(None)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_nothing_but_statements_that_name_records_changes_any(database: Database) -> None:
    async with database.read(EVERY_ORGANIZATION) as tx:
        triggers = await tx.fetch("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%records%'")
        assert not triggers
        assert not await tx.fetch("SELECT * FROM pragma_foreign_key_list('records')")
